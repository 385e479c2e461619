//! Chat templates: messages to one text.
//!
//! Templates are Jinja as Hugging Face's transformers runs it: blocks trimmed, Python's methods on
//! strings and maps, `raise_exception`, `tojson` without HTML escapes. Two things are absent on
//! purpose: `strftime_now`, because the same messages must give the same ids tomorrow (a template
//! that checks whether it is defined works, and takes its default), and any loader of other
//! templates.
//!
//! A template comes from whoever published the model. Fuel bounds the time and the memory of one
//! rendering; text in messages is bounded before.

use crate::{SpecialTokens, TextError};
use minijinja::{Environment, Error, ErrorKind, Value, context, syntax::SyntaxConfig, value::Kwargs};
use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};
use std::io;

/// One message of a chat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct ChatMessage {
    /// `system`, `user`, `assistant` or what else the template knows.
    pub role: String,
    /// What was said.
    pub content: String,
}

/// About 64 MiB, or a million instructions: 20 times what the longest public template takes for a
/// megabyte of messages.
const FUEL: u64 = 1_000_000;
const MAX_TEMPLATE_BYTES: usize = 1 << 20;
const NAME: &str = "chat";

/// A compiled template.
pub(crate) struct Template(Environment<'static>);

impl Template {
    pub(crate) fn new(source: &str) -> Result<Self, TextError> {
        if source.len() > MAX_TEMPLATE_BYTES {
            return Err(TextError::TooLong { bytes: source.len(), limit: MAX_TEMPLATE_BYTES });
        }
        let mut env = Environment::new();
        let syntax = SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build()
            .map_err(|error| TextError::Template(error.to_string()))?;
        env.set_syntax(syntax);
        env.set_fuel(Some(FUEL));
        env.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        env.add_function("raise_exception", raise_exception);
        env.add_filter("tojson", to_json);
        env.add_template_owned(NAME, source.to_string())
            .map_err(|error| TextError::Template(error.to_string()))?;
        Ok(Self(env))
    }

    /// The text of the messages, ending where the assistant's answer begins.
    pub(crate) fn render(
        &self,
        messages: &[ChatMessage],
        special: &SpecialTokens,
    ) -> Result<String, TextError> {
        let context = context! {
            messages => minijinja::value::Serde(messages),
            add_generation_prompt => true,
            bos_token => special.bos.as_deref().unwrap_or_default(),
            eos_token => special.eos.as_deref().unwrap_or_default(),
            unk_token => special.unk.as_deref().unwrap_or_default(),
            pad_token => special.pad.as_deref().unwrap_or_default(),
        };
        let template = self.0.get_template(NAME).map_err(|error| TextError::Template(error.to_string()))?;
        template.render(context).map_err(|error| TextError::Template(error.to_string()))
    }
}

/// How a template refuses messages, for example when roles do not alternate.
fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message))
}

/// Python's `json.dumps(value, ensure_ascii=False, indent=indent)`. minijinja's own filter escapes
/// `<`, `>`, `&` and `'` for HTML, which would change the prompt.
fn to_json(value: &Value, indent: Option<usize>, options: Kwargs) -> Result<String, Error> {
    let indent = match indent {
        Some(indent) => Some(indent),
        None => options.get::<Option<usize>>("indent")?,
    };
    options.get::<Option<bool>>("ensure_ascii")?;
    options.assert_all_used()?;
    let mut bytes = Vec::new();
    let written = match indent {
        Some(indent) => {
            let space = " ".repeat(indent.min(16));
            let formatter = PrettyFormatter::with_indent(space.as_bytes());
            value.serialize(&mut Serializer::with_formatter(&mut bytes, formatter))
        }
        None => value.serialize(&mut Serializer::with_formatter(&mut bytes, Spaced)),
    };
    let failed = |error: String| Error::new(ErrorKind::InvalidOperation, error);
    written.map_err(|error| failed(error.to_string()))?;
    String::from_utf8(bytes).map_err(|error| failed(error.to_string()))
}

/// Python's separators: a space after comma and colon.
struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(role: &str, content: &str) -> ChatMessage {
        ChatMessage { role: role.into(), content: content.into() }
    }

    fn render(source: &str, messages: &[ChatMessage]) -> Result<String, TextError> {
        let special = SpecialTokens { bos: Some("<s>".into()), ..SpecialTokens::default() };
        Template::new(source)?.render(messages, &special)
    }

    /// In the manner of published templates: blocks on lines of their own, some with `-`, some
    /// left to trimming.
    const CHATML: &str = "{{ bos_token }}\n{% for message in messages %}
    {{- '<|im_start|>' + message['role'] + '\\n' + message.content.strip() + '<|im_end|>' + '\\n' -}}
    {% if message.role == 'stop' %}
        {% break %}
    {% endif %}
{% endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
";

    #[test]
    fn a_template_of_the_usual_kind() {
        let text = render(CHATML, &[message("system", "Be brief."), message("user", " Привет & <hi> ")]);
        // What transformers' Jinja environment (jinja2, trim_blocks, lstrip_blocks) gives.
        let expected = "<s>\n<|im_start|>system\nBe brief.<|im_end|>\n\
                        <|im_start|>user\nПривет & <hi><|im_end|>\n<|im_start|>assistant\n";
        assert_eq!(text.unwrap(), expected);
    }

    #[test]
    fn json_is_pythons() {
        let text = render("{{ messages | tojson }}", &[message("user", "a<'é\\u003c")]).unwrap();
        assert_eq!(text, r#"[{"role": "user", "content": "a<'é\\u003c"}]"#);
        let text = render("{{ [1, 'a'] | tojson(indent=2) }}", &[]).unwrap();
        assert_eq!(text, "[\n  1,\n  \"a\"\n]");
    }

    #[test]
    fn a_template_may_refuse() {
        let error = render("{{ raise_exception('roles must alternate') }}", &[]).unwrap_err();
        assert!(error.to_string().contains("roles must alternate"), "{error}");
        assert_eq!(error.code(), "template");
    }

    #[test]
    fn there_is_no_clock() {
        let guarded = "{% if strftime_now is defined %}now{% else %}fixed{% endif %}";
        assert_eq!(render(guarded, &[]).unwrap(), "fixed");
        for source in ["{{ strftime_now('%Y') }}", "{{ now() }}", "{{ randrange(5) }}", "{% include 'x' %}"] {
            assert!(render(source, &[]).is_err(), "{source}");
        }
    }

    #[test]
    fn a_hostile_template_runs_out_of_fuel() {
        let doubling: String = std::iter::once("{% set x = 'aaaaaaaa' %}".to_string())
            .chain((0..60).map(|_| "{% set x = x ~ x %}".into()))
            .collect();
        for source in [
            "{% for a in range(10000) %}{% for b in range(10000) %}{{ a }}{% endfor %}{% endfor %}",
            "{{ 'a' * 10000000000 }}",
            &doubling,
        ] {
            assert!(render(source, &[]).is_err(), "{source}");
        }
        assert!(Template::new(&"a".repeat(MAX_TEMPLATE_BYTES + 1)).is_err());
        assert!(Template::new("{% for %}").is_err());
    }

    #[test]
    fn a_megabyte_of_messages_fits_the_fuel() {
        let long = message("user", &"word ".repeat(200_000));
        assert!(render(CHATML, &[long]).unwrap().len() > 990_000);
        let many: Vec<ChatMessage> = (0..2_000).map(|_| message("user", "hello")).collect();
        assert!(render(CHATML, &many).is_ok());
    }
}
