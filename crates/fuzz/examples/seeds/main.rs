//! Writes a first corpus for every target, made from the values of the crates' own tests:
//! `cargo run -p gristmill-fuzz --example seeds -- fuzz/corpus`. The fuzzer goes on from there.

#![allow(missing_docs, reason = "an example")]

mod channels;
mod ledger;
mod models;
mod wire;

use std::{fs, io, path::Path};

/// A target and one input for it.
type Seed = (&'static str, Vec<u8>);

fn main() -> io::Result<()> {
    let folder = std::env::args().nth(1).unwrap_or_else(|| "fuzz/corpus".to_owned());
    let mut seeds: Vec<Seed> = Vec::new();
    ledger::add(&mut seeds);
    channels::add(&mut seeds);
    wire::add(&mut seeds);
    models::add(&mut seeds);
    for (target, bytes) in &seeds {
        let name = gristmill_types::sha256(&[bytes]).to_string();
        let folder = Path::new(&folder).join(target);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(&name[..16]), bytes)?;
    }
    println!("{} seeds for {} targets", seeds.len(), gristmill_fuzz::TARGETS.len());
    Ok(())
}

/// Bytes behind a number that says what they are.
fn of_kind(kind: u8, bytes: impl AsRef<[u8]>) -> Vec<u8> {
    [&[kind], bytes.as_ref()].concat()
}
