//! Chat templates: messages to one text.
//!
//! Templates are Jinja as Hugging Face's transformers runs it: blocks trimmed, Python's methods on
//! strings and maps, `raise_exception`, `tojson` without HTML escapes. Two things are absent on
//! purpose: `strftime_now`, because the same messages must give the same ids tomorrow (a template
//! that checks whether it is defined works, and takes its default), and any loader of other
//! templates.
//!
//! A template comes from whoever published the model. Fuel bounds the time and the memory of one
//! rendering; text in messages is bounded before. What fuel does not reach is bounded here: the library
//! recurses as deep as an expression is long and as a value is nested, so a template is short, its tags
//! are shorter, and it runs on a stack that its fuel cannot fill; Python's `format` pays for its padding,
//! `tojson` for its output; and `pprint` and `debug`, whose cost rises with the cube of the nesting, are
//! absent.

use crate::{SpecialTokens, TextError};
use minijinja::{
    Environment, Error, ErrorKind, State, Value, context,
    syntax::SyntaxConfig,
    value::{Kwargs, ValueKind},
};
use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};
use std::{io, thread};

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
/// Bytes for which a unit of fuel pays.
const BYTES_PER_FUEL: usize = 64;
/// The longest public templates have about 20 KiB.
const MAX_TEMPLATE_BYTES: usize = 128 << 10;
/// What may stand between `{{` and `}}`, or `{%` and `%}`, besides texts in quotes.
const MAX_TAG_BYTES: usize = 2 << 10;
/// All fuel spent on nesting makes 120 000 levels; comparing or writing them takes 50 MB. Only what is
/// touched of it is real.
const STACK_BYTES: usize = 256 << 20;
const NAME: &str = "chat";

/// A compiled template.
pub(crate) struct Template(Environment<'static>);

impl Template {
    pub(crate) fn new(source: &str) -> Result<Self, TextError> {
        if source.len() > MAX_TEMPLATE_BYTES {
            return Err(TextError::TooLong { bytes: source.len(), limit: MAX_TEMPLATE_BYTES });
        }
        let bytes = longest_tag(source);
        if bytes > MAX_TAG_BYTES {
            let reason = format!("one tag has {bytes} bytes of code, more than {MAX_TAG_BYTES}");
            return Err(TextError::Template(reason));
        }
        apart(|| compile(source)).map(Self)
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
        apart(|| self.0.get_template(NAME)?.render(context))
    }
}

fn compile(source: &str) -> Result<Environment<'static>, Error> {
    let mut env = Environment::new();
    env.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    env.set_fuel(Some(FUEL));
    env.set_unknown_method_callback(method);
    env.add_function("raise_exception", raise_exception);
    env.add_filter("tojson", to_json);
    env.remove_filter("pprint");
    env.remove_global("debug");
    env.add_template_owned(NAME, source.to_string())?;
    Ok(env)
}

/// Does the work on a stack of its own, which a stranger's template may well use.
fn apart<T: Send>(work: impl FnOnce() -> Result<T, Error> + Send) -> Result<T, TextError> {
    // An error may hold the values that it is about, which are dropped there, too.
    let work = || work().map_err(|error| error.to_string());
    thread::scope(|scope| {
        let builder = thread::Builder::new().name("template".into()).stack_size(STACK_BYTES);
        let thread = builder.spawn_scoped(scope, work).map_err(|error| error.to_string())?;
        thread.join().map_err(|_| "it panicked".to_owned())?
    })
    .map_err(TextError::Template)
}

/// The most bytes that a tag has besides texts in quotes.
fn longest_tag(source: &str) -> usize {
    let (mut longest, mut length, mut inside, mut quote) = (0, 0, false, None);
    let mut bytes = source.bytes().peekable();
    while let Some(byte) = bytes.next() {
        match (inside, quote) {
            (false, _) => {
                inside = byte == b'{' && matches!(bytes.peek(), Some(b'{' | b'%'));
                length = 0;
            }
            (true, Some(open)) => match byte {
                b'\\' => drop(bytes.next()),
                _ if byte == open => quote = None,
                _ => {}
            },
            (true, None) => {
                length += 1;
                longest = longest.max(length);
                match byte {
                    b'"' | b'\'' => quote = Some(byte),
                    b'}' | b'%' => inside = bytes.peek() != Some(&b'}'),
                    _ => {}
                }
            }
        }
    }
    longest
}

/// Python's methods. A width or a precision in `format` is paid for before it is filled: the library
/// counts everything else.
fn method(state: &mut State, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    if let ("format", Some(text)) = (name, value.as_str()) {
        let numbers = text.split(|c: char| !c.is_ascii_digit()).filter(|digits| !digits.is_empty());
        let written = numbers.map(|digits| digits.parse().unwrap_or(u64::MAX));
        let given = args.iter().filter(|arg| arg.kind() == ValueKind::Number);
        let given = given.map(|arg| u64::try_from(arg.clone()).unwrap_or(0));
        let nested = text.contains(":{") || text.contains(".{");
        let bytes = written.chain(given.filter(|_| nested)).fold(0, u64::saturating_add);
        state.consume_fuel(bytes / BYTES_PER_FUEL as u64)?;
    }
    minijinja_contrib::pycompat::unknown_method_callback(state, value, name, args)
}

/// How a template refuses messages, for example when roles do not alternate.
fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message))
}

/// Python's `json.dumps(value, ensure_ascii=False, indent=indent)`. minijinja's own filter escapes
/// `<`, `>`, `&` and `'` for HTML, which would change the prompt.
fn to_json(state: &State, value: &Value, indent: Option<usize>, options: Kwargs) -> Result<String, Error> {
    let indent = match indent {
        Some(indent) => Some(indent),
        None => options.get::<Option<usize>>("indent")?,
    };
    options.get::<Option<bool>>("ensure_ascii")?;
    options.assert_all_used()?;
    let mut output = Paid { state, bytes: Vec::new(), due: 0 };
    let written = match indent {
        Some(indent) => {
            let space = " ".repeat(indent.min(16));
            let formatter = PrettyFormatter::with_indent(space.as_bytes());
            value.serialize(&mut Serializer::with_formatter(&mut output, formatter))
        }
        None => value.serialize(&mut Serializer::with_formatter(&mut output, Spaced)),
    };
    let failed = |error: String| Error::new(ErrorKind::InvalidOperation, error);
    written.map_err(|error| failed(error.to_string()))?;
    String::from_utf8(output.bytes).map_err(|error| failed(error.to_string()))
}

/// Output that the template's fuel pays for as it grows.
struct Paid<'a, 'env> {
    state: &'a State<'a, 'env>,
    bytes: Vec<u8>,
    due: usize,
}

impl io::Write for Paid<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.due = self.due.saturating_add(bytes.len());
        let fuel = self.due / BYTES_PER_FUEL;
        self.due %= BYTES_PER_FUEL;
        self.state.consume_fuel(fuel as u64).map_err(io::Error::other)?;
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
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
        let nested = "{% set ns = namespace(x=[]) %}{% for i in range(7000) %}{% for j in range(10) %}\
                      {% set ns.x = [ns.x] %}{% endfor %}{% endfor %}";
        for end in ["{{ ns.x | tojson(indent=16) | length }}", "{{ ns.x | pprint }}"] {
            assert!(render(&format!("{nested}{end}"), &[]).is_err(), "{end}");
        }
        for format in ["{:99999999999}", "{:.99999999999f}", "{:{}}"] {
            let source = format!("{{{{ '{format}'.format(1.5, 99999999999) | length }}}}");
            assert!(render(&source, &[]).is_err(), "{source}");
        }
        assert!(Template::new(&"a".repeat(MAX_TEMPLATE_BYTES + 1)).is_err());
        assert!(Template::new("{% for %}").is_err());
    }

    /// Each of these once ended the process: the library recurses as deep as they are long.
    #[test]
    fn a_deep_template_does_not_end_the_program() {
        let nested = "{% set ns = namespace(x=[]) %}{% for i in range(7000) %}{% for j in range(10) %}\
                      {% set ns.x = [ns.x] %}{% endfor %}{% endfor %}";
        for (end, text) in [("{{ ns.x == [ns.x] }}", "False"), ("{{ (ns.x ~ '') | length }}", "140002")] {
            assert_eq!(render(&format!("{nested}{end}"), &[]).unwrap(), text, "{end}");
        }
        let alternatives = format!("{{% if 0 %}}{}{{% endif %}}", "{% elif 0 %}".repeat(10_000));
        assert_eq!(render(&alternatives, &[]).unwrap(), "");
        for link in ["+1", "|abs", ".a", "~1", "**2", " if 1 else 1", "()", "[1]"] {
            let source = format!("{{{{ 1{} }}}}", link.repeat(100_000 / link.len()));
            assert!(Template::new(&source).is_err(), "{link}");
        }
        for sign in ["-", "not "] {
            let source = format!("{{% set x = {}1 %}}", sign.repeat(100_000 / sign.len()));
            assert!(Template::new(&source).is_err(), "{sign}");
        }
    }

    #[test]
    fn long_texts_in_tags_are_no_code() {
        let text = "no quote ends it: } %} {{ \\' ".repeat(1_000);
        assert!(longest_tag(&format!("{{{{ '{text}' ~ \"{text}\" }}}}")) < 20);
        for (source, bytes) in [("", 0), ("{ a }", 0), ("{{ a }}b{% c %}", 5), ("{{'a'}}", 3), ("{{ a", 3)] {
            assert_eq!(longest_tag(source), bytes, "{source}");
        }
        let long = format!("{{{{ [{}] | length }}}}", "1,".repeat(900));
        assert_eq!(render(&long, &[]).unwrap(), "900");
    }

    #[test]
    fn a_megabyte_of_messages_fits_the_fuel() {
        let long = message("user", &"word ".repeat(200_000));
        assert!(render(CHATML, &[long]).unwrap().len() > 990_000);
        let many: Vec<ChatMessage> = (0..2_000).map(|_| message("user", "hello")).collect();
        assert!(render(CHATML, &many).is_ok());
    }
}
