//! Reads the text of `GET /metrics`: the subset of OpenMetrics that our roles write.

use std::collections::BTreeMap;

/// What a family of samples is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kind {
    /// `counter`, `gauge` or `histogram`.
    pub kind: String,
    /// What it means.
    pub help: String,
}

/// One number.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The name, with the suffix of its kind (`_total`, `_bucket`, `_sum`, `_count`).
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The number.
    pub value: f64,
}

/// A text that was read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    /// Families by name.
    pub families: BTreeMap<String, Kind>,
    /// All samples, in their order.
    pub samples: Vec<Sample>,
}

impl Reading {
    /// The samples of that name that have at least these labels.
    pub fn of<'a>(
        &'a self,
        name: &'a str,
        labels: &'a [(&'a str, &'a str)],
    ) -> impl Iterator<Item = &'a Sample> {
        self.samples.iter().filter(move |sample| {
            sample.name == name
                && labels.iter().all(|(key, value)| sample.labels.get(*key).is_some_and(|of| of == value))
        })
    }

    /// The sum of these samples; none if there is none.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        self.of(name, labels).map(|sample| sample.value).reduce(|sum, value| sum + value)
    }
}

/// Reads a text. Lines that do not read are passed over.
pub fn read(text: &str) -> Reading {
    let mut reading = Reading::default();
    for line in text.lines() {
        match line.strip_prefix("# ") {
            Some(rest) => describe(&mut reading, rest),
            None => reading.samples.extend(sample(line)),
        }
    }
    reading
}

fn describe(reading: &mut Reading, line: &str) {
    let mut words = line.splitn(3, ' ');
    let (Some(what), Some(name), Some(rest)) = (words.next(), words.next(), words.next()) else { return };
    if !["HELP", "TYPE"].contains(&what) {
        return;
    }
    let empty = Kind { kind: String::new(), help: String::new() };
    let family = reading.families.entry(name.to_owned()).or_insert(empty);
    match what {
        "HELP" => family.help = rest.trim_end_matches('.').to_owned(),
        _ => family.kind = rest.to_owned(),
    }
}

fn sample(line: &str) -> Option<Sample> {
    let name_ends = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(name_ends);
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        while !rest.starts_with('}') {
            let (key, value) = rest.split_once("=\"")?;
            let (value, after) = quoted(value)?;
            labels.insert(key.to_owned(), value);
            rest = after.strip_prefix(',').unwrap_or(after);
        }
        rest = rest.get(1..)?;
    }
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some(Sample { name: name.to_owned(), labels, value })
}

/// Text up to the quote that ends it, and what follows.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, text.get(at + 1..)?)),
            '\\' => match characters.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text() {
        let found = read(
            "# HELP tea_cups Cups that were drunk.\n# TYPE tea_cups counter\n\
             tea_cups_total{kind=\"green, \\\"first\\\" flush\",place=\"a\"} 3\n\
             tea_cups_total{kind=\"black\",place=\"a\"} 4 1700000000\n\
             # TYPE tea_seconds histogram\ntea_seconds_bucket{le=\"+Inf\"} 2\ntea_warm 1.5\n\
             nonsense\nnonsense{\nnonsense{a=\"b} 1\nnonsense{a=\"b\"} x\n# EOF\n",
        );
        assert_eq!(
            found.families["tea_cups"],
            Kind { kind: "counter".into(), help: "Cups that were drunk".into() }
        );
        assert_eq!(found.families.len(), 2);
        for (name, labels, value) in [
            ("tea_cups_total", &[][..], Some(7.0)),
            ("tea_cups_total", &[("kind", "black")], Some(4.0)),
            ("tea_cups_total", &[("kind", "green, \"first\" flush"), ("place", "a")], Some(3.0)),
            ("tea_cups_total", &[("kind", "white")], None),
            ("tea_seconds_bucket", &[("le", "+Inf")], Some(2.0)),
            ("tea_warm", &[], Some(1.5)),
            ("nonsense", &[], None),
        ] {
            assert_eq!(found.value(name, labels), value, "{name} {labels:?}");
        }
    }
}
