//! The text of `GET /metrics`, as `gristmill status` reads it of whatever listens at a role's address.

use gristmill_metrics::{Sample, read};
use std::fmt::Write as _;

/// The text. A sample that is written as our roles write it reads the same.
pub fn run(data: &[u8]) {
    let reading = read(&String::from_utf8_lossy(data));
    for sample in &reading.samples {
        assert!(reading.value(&sample.name, &[]).is_some());
        let plain = |name: &String| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if !plain(&sample.name) || !sample.labels.keys().all(plain) || sample.value.is_nan() {
            continue;
        }
        let text = written(sample);
        assert_eq!(read(&text).samples, std::slice::from_ref(sample), "{text}");
    }
}

fn written(sample: &Sample) -> String {
    let mut text = sample.name.clone();
    let mut open = '{';
    for (key, value) in &sample.labels {
        let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let _ = write!(text, "{open}{key}=\"{value}\"");
        open = ',';
    }
    if open == ',' {
        text.push('}');
    }
    let _ = write!(text, " {:?}", sample.value);
    text
}
