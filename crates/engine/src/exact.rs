//! What products of quantised weights are on this processor: whether their rows have the same bits alone and
//! among others, and a fingerprint of these bits.
//!
//! candle has several kernels for one type of weights and chooses by processor and by the number of
//! rows. Where all of them add in the same order the choice does not show; where not, an answer would
//! depend on its company, and by more than last bits: activations are rounded to eight bits before each
//! product, where a last bit decides between two steps. So nothing is taken for granted: a type is
//! exact if a trial on this very processor finds no difference, up to [`STEP_ROWS`] rows.
//!
//! More rows occur in prompts alone, whose shapes do not depend on company. That leaves the kernels for
//! many rows to them (with AMX, `q4_k` takes another one from 32 rows on).
//!
//! Another processor may have other kernels. With AVX-VNNI candle rounds the activations of a `q8_0` matrix for 256
//! numbers at a time, with plain AVX2 for 32: both are exact, and their answers differ. So the engine class
//! names the arithmetic, by the [fingerprint] of the trial's products, and only answers of one class are compared.

use crate::{linear::Linear, random::Random};
use candle_core::{
    Device, Result, Tensor,
    quantized::{GgmlDType, QTensor},
};
use gristmill_types::{Digest, sha256};
use std::sync::OnceLock;

/// Rows of a product at most, where shapes depend on company.
pub(crate) const STEP_ROWS: usize = 31;

/// Rows of the product that stands for those of prompts: more than any kernel for few rows takes.
const PROMPT_ROWS: usize = 64;

/// What a trial found.
#[derive(Clone, Copy, Debug)]
struct Trial {
    exact: bool,
    /// Of the bits of all products.
    bits: Digest,
}

/// Types that are tried, by GGML's names: those of files that are in use. With the results; none where the
/// trial failed.
static TRIALS: [(GgmlDType, &str, OnceLock<Option<Trial>>); 6] = [
    (GgmlDType::Q4_0, "q4_0", OnceLock::new()),
    (GgmlDType::Q5_0, "q5_0", OnceLock::new()),
    (GgmlDType::Q8_0, "q8_0", OnceLock::new()),
    (GgmlDType::Q4K, "q4_k", OnceLock::new()),
    (GgmlDType::Q5K, "q5_k", OnceLock::new()),
    (GgmlDType::Q6K, "q6_k", OnceLock::new()),
];

/// Whether a type by GGML's name is exact here. Types without blocks are not (their products are cut
/// by the number of rows), and of rare ones nothing is claimed.
pub(crate) fn is_exact(name: &str) -> bool {
    find(name).is_some_and(|trial| trial.exact)
}

/// Names the arithmetic of these types on this processor, in eight hexadecimal digits; none if there is nothing
/// to name, as with f32, whose kernels agree within its margin.
pub(crate) fn fingerprint<'a>(names: impl Iterator<Item = &'a str>) -> Option<String> {
    let found: Vec<Digest> = names.filter_map(find).map(|trial| trial.bits).collect();
    let parts: Vec<&[u8]> = found.iter().map(|bits| bits.as_bytes().as_slice()).collect();
    (!parts.is_empty()).then(|| sha256(&parts).to_string().chars().take(8).collect())
}

fn find(name: &str) -> Option<Trial> {
    let (kind, _, result) = TRIALS.iter().find(|(_, known, _)| *known == name)?;
    *result.get_or_init(|| {
        let found = trial(*kind).ok();
        if !found.is_some_and(|trial| trial.exact) {
            tracing::warn!(name, "on this processor a batch changes last bits; answers are not exact");
        }
        found
    })
}

/// Compares products of so many rows with those of each row alone, for matrices in tiles and not.
fn trial(kind: GgmlDType) -> Result<Trial> {
    let (mut exact, mut bits) = (true, Vec::new());
    let mut random = Random(0);
    let mut numbers = |rows: usize, columns: usize| {
        let numbers: Vec<f32> = (0..rows * columns).map(|_| random.next()).collect();
        Tensor::from_vec(numbers, (rows, columns), &Device::Cpu)
    };
    for (out, input) in [(48, 512), (43, 512), (32, 320_usize)] {
        if !input.is_multiple_of(kind.block_size()) {
            continue;
        }
        let matrix = Linear::quantised(QTensor::quantize(&numbers(out, input)?, kind)?);
        let rows = numbers(PROMPT_ROWS, input)?;
        let product = |from: usize, count: usize| -> Result<Vec<Vec<f32>>> {
            matrix.forward(&rows.narrow(0, from, count)?)?.to_vec2()
        };
        let alone: Vec<Vec<f32>> =
            (0..STEP_ROWS).map(|row| Ok(product(row, 1)?.remove(0))).collect::<Result<_>>()?;
        for count in 2..=STEP_ROWS {
            let from = STEP_ROWS - count;
            let same =
                |(a, b): (&Vec<f32>, &Vec<f32>)| a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits());
            exact &= product(from, count)?.iter().zip(&alone[from..]).all(same);
        }
        let prompt = product(0, PROMPT_ROWS)?;
        bits.extend(alone.iter().chain(&prompt).flatten().flat_map(|x| x.to_bits().to_le_bytes()));
    }
    Ok(Trial { exact, bits: sha256(&[&bits]) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Module, quantized::QMatMul};
    use std::sync::Arc;

    #[test]
    fn nothing_is_claimed_of_other_types() {
        for name in ["f32", "f16", "bf16", "q4_1", "q5_1", "q8_1", "q2_k", "q3_k", "q8_k", ""] {
            assert!(!is_exact(name), "{name}");
        }
        for (_, name, _) in &TRIALS {
            println!("{name}: {}", if is_exact(name) { "exact" } else { "not exact on this processor" });
        }
    }

    #[test]
    fn the_fingerprint_names_what_is_computed() {
        let of = |names: &[&str]| fingerprint(names.iter().copied());
        assert_eq!((of(&[]), of(&["f32"]), of(&["f32", "q2_k"])), (None, None, None));
        let all: Vec<_> = TRIALS.iter().map(|(_, name, _)| of(&[name]).unwrap()).collect();
        assert!((1..all.len()).all(|at| !all[..at].contains(&all[at])), "{all:?}");
        assert_eq!(of(&["f32", "q8_0"]), of(&["q8_0"]));
        assert_ne!(of(&["q4_k", "q8_0"]), of(&["q8_0"]));
        // Again, from the beginning.
        assert_eq!(trial(GgmlDType::Q8_0).unwrap().bits, find("q8_0").unwrap().bits);
    }

    /// What a trial would find without [`Linear`]'s care for a single row: candle's kernel for it.
    #[test]
    #[cfg(target_arch = "x86_64")]
    fn there_are_kernels_that_differ() {
        if !std::is_x86_feature_detected!("avx2") {
            return;
        }
        let numbers = |rows: usize, random: &mut Random| {
            let numbers: Vec<f32> = (0..rows * 512).map(|_| random.next()).collect();
            Tensor::from_vec(numbers, (rows, 512), &Device::Cpu).unwrap()
        };
        let mut random = Random(0);
        let matrix = QTensor::quantize(&numbers(48, &mut random), GgmlDType::Q6K).unwrap();
        let matrix = QMatMul::QTensor(Arc::new(matrix));
        let rows = numbers(2, &mut random);
        let bits = |rows: Tensor| -> Vec<u32> {
            let product: Vec<Vec<f32>> = matrix.forward(&rows).unwrap().to_vec2().unwrap();
            product[0].iter().map(|x| x.to_bits()).collect()
        };
        assert_ne!(bits(rows.narrow(0, 0, 1).unwrap()), bits(rows));
        assert!(is_exact("q6_k"));
    }
}
