//! Receipts as files, with all that they are checked against: of a file that was changed, whatever
//! still holds is what was signed.

use crate::through_json;
use gristmill_gateway::{ReceiptEntry, verify};
use std::sync::LazyLock;

/// The receipts that were signed in the corpus.
static SIGNED: LazyLock<Vec<ReceiptEntry>> = LazyLock::new(|| {
    crate::parts(include_bytes!("../data/receipts"))
        .map(|bytes| serde_json::from_slice(bytes).unwrap())
        .inspect(|entry| assert!(verify(entry).is_ok()))
        .collect()
});

/// The file.
pub fn run(data: &[u8]) {
    let Ok(entry) = serde_json::from_slice::<ReceiptEntry>(data) else { return };
    through_json(&entry);
    let Ok(checked) = verify(&entry) else { return };
    let signed = SIGNED.iter().find(|signed| signed.id == entry.id).expect("a forged receipt holds");
    assert_eq!((&entry.receipt, &entry.voucher), (&signed.receipt, &signed.voucher));
    assert_eq!((&entry.quote, &entry.terms), (&signed.quote, &signed.terms));
    if checked.answer_proven {
        assert_eq!((&entry.answer, &entry.output_ids), (&signed.answer, &signed.output_ids));
    }
    if checked.request_proven {
        assert_eq!((&entry.request, &entry.prompt_ids), (&signed.request, &signed.prompt_ids));
    }
    if checked.cost_proven {
        assert_eq!(entry.cost, signed.cost);
    }
}
