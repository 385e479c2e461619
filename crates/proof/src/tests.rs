//! Certificates made by hand, good and bad, and bytes from anywhere.

use crate::{
    BodyProof, Committee, Finality, Header, MAX_DESCENDANTS, ProofError, Scheme, StateProof, Trust, body_root,
};
use commonware_codec::{Copying, DecodeExt as _};
use commonware_consensus::{
    simplex::types::{Context, Finalization, Finalize, Proposal},
    types::{Epoch, Height, Round, View},
};
use commonware_cryptography::{Digest as _, Digestible as _, ed25519, sha256::Digest};
use commonware_parallel::Sequential;
use commonware_storage::mmr::Location;
use commonware_utils::{non_empty, non_empty_range};
use gristmill_types::{AccountId, ChainId, SecretKey, TxHash};
use proptest::prelude::*;
use std::process::Command;

const CHAIN: ChainId = ChainId::new([1; 32]);

fn secret(number: u8) -> SecretKey {
    SecretKey::from_seed(&[number; 32])
}

fn committee(numbers: &[u8]) -> Committee {
    let accounts: Vec<AccountId> = numbers.iter().map(|number| secret(*number).account()).collect();
    Committee::new(&accounts).unwrap()
}

fn header(height: u64, parent: Digest, committee: &Committee) -> Header {
    Header {
        context: Context {
            round: Round::new(Epoch::zero(), View::new(height)),
            leader: committee.keys().iter().next().unwrap().clone(),
            parent: (View::new(height - 1), parent),
        },
        parent,
        height: Height::new(height),
        time_ms: 1_000 * height,
        clock_ms: 500 * height,
        next_committee: committee.hash(),
        body_root: body_root([].into_iter()),
        state_root: Digest::EMPTY,
        ops_root: Digest::EMPTY,
        range: non_empty_range!(Location::new(0), Location::new(height)),
    }
}

/// A certificate for the header by these signers, under the chain's id.
fn certify(
    chain: ChainId,
    committee: &Committee,
    signers: &[u8],
    header: &Header,
) -> Finalization<Scheme, Digest> {
    let scheme = |number: u8| {
        let key = ed25519::PrivateKey::decode(Copying(secret(number).to_seed().as_slice())).unwrap();
        Scheme::signer(chain.as_bytes(), committee.keys().clone(), key).unwrap()
    };
    let round = header.context.round;
    let proposal = Proposal::new(round, header.context.parent.0, header.digest());
    let votes: Vec<_> =
        signers.iter().map(|number| Finalize::sign(&scheme(*number), proposal.clone()).unwrap()).collect();
    Finalization::from_finalizes(&scheme(signers[0]), non_empty![@votes.iter()], &Sequential).unwrap()
}

fn chain_of(committee: &Committee, length: u64) -> Vec<Header> {
    let mut headers: Vec<Header> = Vec::new();
    for height in 1..=length {
        let parent = headers.last().map_or(Digest::EMPTY, Header::digest);
        headers.push(header(height, parent, committee));
    }
    headers
}

fn finality(descendants: u64) -> (Trust, Finality) {
    let committee = committee(&[1, 2, 3, 4]);
    let mut headers = chain_of(&committee, descendants + 1);
    let certificate = certify(CHAIN, &committee, &[1, 2, 3], headers.last().unwrap());
    let header = headers.remove(0);
    (Trust::new(CHAIN, committee), Finality { header, descendants: headers, certificate })
}

#[test]
fn a_quorum_makes_a_header_and_its_ancestors_final() {
    for descendants in [0, 1, 5, MAX_DESCENDANTS as u64] {
        let (trust, finality) = finality(descendants);
        let finality = Finality::from_bytes(&finality.to_bytes()).unwrap();
        assert_eq!(finality.verify(&trust).unwrap().height.get(), 1);
    }
    let (_, too_many) = finality(MAX_DESCENDANTS as u64 + 1);
    assert!(matches!(Finality::from_bytes(&too_many.to_bytes()), Err(ProofError::Malformed { .. })));
}

#[test]
fn what_does_not_fit_is_not_believed() {
    let (trust, good) = finality(3);
    let members = committee(&[1, 2, 3, 4]);

    let strangers = Trust::new(CHAIN, committee(&[1, 2, 3, 5]));
    assert_eq!(good.verify(&strangers).unwrap_err(), ProofError::UnexpectedCommittee);
    let elsewhere = Trust::new(ChainId::new([2; 32]), members.clone());
    assert_eq!(good.verify(&elsewhere).unwrap_err(), ProofError::BadCertificate);

    let mut gap = good.clone();
    gap.descendants.remove(1);
    assert_eq!(gap.verify(&trust).unwrap_err(), ProofError::BrokenChain { height: 2 });
    let mut swapped = good.clone();
    swapped.header.state_root = Digest::from([9; 32]);
    assert_eq!(swapped.verify(&trust).unwrap_err(), ProofError::BrokenChain { height: 1 });
    let mut other = good.clone();
    other.descendants.pop();
    assert!(matches!(other.verify(&trust), Err(ProofError::OtherBlock { .. })));

    // A quorum of a committee that signed for a smaller one is none of ours.
    let alone = committee(&[1]);
    let mut headers = chain_of(&members, 1);
    let certificate = certify(CHAIN, &alone, &[1], &headers[0]);
    let forged = Finality { header: headers.remove(0), descendants: Vec::new(), certificate };
    assert_eq!(forged.verify(&trust).unwrap_err(), ProofError::BadCertificate);
}

#[test]
fn committees_are_bounded_and_have_one_order() {
    let accounts: Vec<AccountId> = (1..=4).map(|number| secret(number).account()).collect();
    let reversed: Vec<AccountId> = accounts.iter().rev().copied().collect();
    assert_eq!(Committee::new(&accounts).unwrap().hash(), Committee::new(&reversed).unwrap().hash());
    for bad in [vec![], vec![accounts[0]; 2], vec![accounts[0]; 129]] {
        assert!(matches!(Committee::new(&bad), Err(ProofError::Committee(_))));
    }
}

#[test]
fn transactions_are_proven_to_be_in_a_block() {
    let hashes: Vec<TxHash> = (0..5).map(|number| TxHash::new([number; 32])).collect();
    let mut header = header(1, Digest::EMPTY, &committee(&[1]));
    header.body_root = body_root(hashes.iter().copied());
    for (position, hash) in (0..).zip(&hashes) {
        let proof = BodyProof::new(hashes.iter().copied(), position).unwrap();
        let proof = BodyProof::from_bytes(&proof.to_bytes()).unwrap();
        assert_eq!(proof.verify(hash, &header), Ok(()));
        let other = TxHash::new([9; 32]);
        assert_eq!(proof.verify(&other, &header), Err(ProofError::BadBodyProof { height: 1 }));
    }
    assert_eq!(BodyProof::new(hashes.iter().copied(), 5), None);
}

#[test]
fn the_header_has_one_encoding() {
    let header = header(7, Digest::from([3; 32]), &committee(&[1]));
    assert_eq!(Header::from_bytes(&header.to_bytes()).unwrap(), header);
    // Pinned: a change of this value is a change of the ledger's format.
    assert_eq!(header.hash().to_string(), "090ad209b7d7c6413138a5fbf8cdebfd95ebfb7fdfbdf428d0af57785caf5fce");
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2_000)) {
        let _ = Header::from_bytes(&bytes);
        let _ = StateProof::from_bytes(&bytes);
        let _ = BodyProof::from_bytes(&bytes);
        let _ = Finality::from_bytes(&bytes);
    }

    #[test]
    fn a_changed_byte_is_noticed(position in 0usize..10_000, flip in 1u8..) {
        let (trust, good) = finality(2);
        let mut bytes = good.to_bytes();
        let position = position % bytes.len();
        bytes[position] ^= flip;
        let changed = Finality::from_bytes(&bytes);
        let believed = changed.ok().filter(|changed| changed.verify(&trust).is_ok());
        prop_assert!(believed.is_none(), "byte {position} of {} was changed unnoticed", bytes.len());
    }
}

/// Says of each finality proof in a file whether the verifier in Python takes it.
const JUDGE: &str = "
import importlib.util, json, sys
specification = importlib.util.spec_from_file_location('verify_proof', sys.argv[1])
verifier = importlib.util.module_from_spec(specification)
specification.loader.exec_module(verifier)
def holds(chain, committee, finality):
    try:
        verifier.final_header(finality, bytes.fromhex(chain), [bytes.fromhex(key) for key in committee])
        return True
    except Exception:
        return False
print(json.dumps([holds(*vector) for vector in json.load(open(sys.argv[2]))]))
";

/// The verifier that shares no code with us says what we say of committees of several sizes, of any quorum
/// of theirs, and of proofs that were changed.
#[test]
fn python_and_rust_agree_on_certificates() {
    let installed = Command::new("python3").arg("--version").output();
    if !installed.is_ok_and(|found| found.status.success()) {
        assert!(std::env::var_os("GRISTMILL_E2E_REQUIRED").is_none(), "python3 is required here");
        eprintln!("skipped: python3 is not installed");
        return;
    }
    let (mut vectors, mut ours) = (Vec::new(), Vec::new());
    let mut judge = |trust: &Trust, committee: &Committee, bytes: &[u8]| {
        let keys: Vec<String> = committee.keys().iter().map(|key| hex::encode(key.as_ref())).collect();
        vectors.push((hex::encode(trust.chain().as_bytes()), keys, hex::encode(bytes)));
        ours.push(Finality::from_bytes(bytes).is_ok_and(|finality| finality.verify(trust).is_ok()));
    };
    let made = |chain, members: &Committee, signers: &[u8], descendants: u64| {
        let mut headers = chain_of(members, descendants + 1);
        let certificate = certify(chain, members, signers, headers.last().unwrap());
        Finality { header: headers.remove(0), descendants: headers, certificate }.to_bytes()
    };
    let mut good = 0;
    for (size, signers) in [
        (1, vec![vec![1]]),
        (4, vec![vec![1, 2, 3], vec![4, 2, 1], vec![1, 2, 3, 4]]),
        (7, vec![vec![1, 2, 3, 4, 5], vec![3, 4, 5, 6, 7]]),
        (10, vec![vec![2, 3, 4, 5, 6, 7, 8], vec![10, 9, 8, 7, 6, 5, 4, 3, 2, 1]]),
    ] {
        let members = committee(&(1..=size).collect::<Vec<u8>>());
        let trust = Trust::new(CHAIN, members.clone());
        for signers in signers {
            for descendants in [0, 2] {
                let bytes = made(CHAIN, &members, &signers, descendants);
                judge(&trust, &members, &bytes);
                good += 1;
                // One byte in twenty, wherever it is.
                for at in (usize::from(size)..bytes.len()).step_by(20) {
                    let mut changed = bytes.to_vec();
                    changed[at] ^= 1 << (at % 8);
                    judge(&trust, &members, &changed);
                }
            }
        }
        // Another ledger's certificate, and one of strangers of the same number.
        judge(&trust, &members, &made(ChainId::new([2; 32]), &members, &(1..=size).collect::<Vec<u8>>(), 0));
        let strangers: Vec<u8> = (101..101 + size).collect();
        judge(&trust, &members, &made(CHAIN, &committee(&strangers), &strangers, 0));
    }
    assert_eq!(ours.iter().filter(|held| **held).count(), good, "a changed proof held");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), serde_json::to_vec(&vectors).unwrap()).unwrap();
    let verifier = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tools/verify_proof.py");
    let output =
        Command::new("python3").args(["-B", "-c", JUDGE, verifier]).arg(file.path()).output().unwrap();
    let theirs: Vec<bool> = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    assert_eq!(theirs, ours);
}
