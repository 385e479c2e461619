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
//! recurses as deep as an expression is long and as a value is nested, so a tag is short, and a template runs on
//! a stack that its fuel cannot fill; Python's methods pay for their work before they do it, `tojson` and `join`
//! for what they write as it grows; and `pprint` and `debug`, whose cost rises with the cube of the nesting, are
//! absent.
//!
//! One thing no bound here reaches: where a list is made a text, by `~`, by a filter or as output, the library
//! writes all of it before it counts. SECURITY.md has this as a known limit.

use crate::{SpecialTokens, TextError};
use minijinja::{
    Environment, Error, ErrorKind, State, Value, context,
    machinery::{Token, tokenize},
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
/// Words, texts and signs of one tag. The library's work on an expression grows with the square of its length,
/// and it recurses as deep.
const MAX_TAG_TOKENS: usize = 2_000;
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
        let tokens = apart(|| longest_tag(source))?;
        if tokens > MAX_TAG_TOKENS {
            let reason = format!("one tag has {tokens} words and signs, more than {MAX_TAG_TOKENS}");
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

fn syntax() -> Result<SyntaxConfig, Error> {
    SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()
}

/// How many tokens the longest tag has, as the library itself reads it.
fn longest_tag(source: &str) -> Result<usize, Error> {
    let (mut longest, mut length) = (0, 0);
    for token in tokenize(source, false, syntax()?) {
        match token?.0 {
            Token::VariableStart | Token::BlockStart | Token::TemplateData(_) => length = 0,
            _ => length += 1,
        }
        longest = longest.max(length);
    }
    Ok(longest)
}

fn compile(source: &str) -> Result<Environment<'static>, Error> {
    let mut env = Environment::new();
    env.set_syntax(syntax()?);
    env.set_fuel(Some(FUEL));
    env.set_unknown_method_callback(method);
    env.add_function("raise_exception", raise_exception);
    env.add_filter("tojson", to_json);
    env.add_filter("join", join);
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

/// Python's methods. The library counts the results once they are there; here the work is paid for before
/// it is done, and what could grow without end grows where the library counts.
fn method(state: &mut State, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    let text = value.as_str();
    let given = args.iter().filter_map(Value::as_str).map(str::len).fold(0, usize::saturating_add);
    let work = match (name, text, args.first().and_then(Value::as_str)) {
        ("count", None, _) => return Err(Error::from(ErrorKind::UnknownMethod)),
        ("join", Some(joiner), _) if args.len() == 1 => {
            return joined(state, &args[0], joiner, None).map(Value::from);
        }
        ("format", Some(text), _) => formatted(text, args)?,
        ("strip" | "lstrip" | "rstrip", Some(text), Some(chars)) => {
            text.len().saturating_mul(chars.chars().count())
        }
        // Slots of the list beside the pieces.
        ("split", Some(text), Some(by)) => pay_for_list(text, text.matches(by).count()),
        ("split", Some(text), None) => pay_for_list(text, text.split_whitespace().count()),
        ("splitlines", Some(text), _) => pay_for_list(text, text.matches('\n').count()),
        ("startswith" | "endswith", Some(_), None) => {
            let prefixes = args.iter().filter_map(|arg| arg.try_iter().ok()).flatten();
            prefixes.map(|prefix| prefix.as_str().map_or(1, str::len)).fold(0, usize::saturating_add)
        }
        ("startswith" | "endswith", ..) | (_, None, _) => 0,
        (_, Some(text), _) => text.len(),
    };
    let bytes = u64::try_from(work.saturating_add(given)).unwrap_or(u64::MAX);
    state.consume_fuel(bytes / BYTES_PER_FUEL as u64)?;
    minijinja_contrib::pycompat::unknown_method_callback(state, value, name, args)
}

/// Bytes of a text and of a list of so many and one of its pieces.
fn pay_for_list(text: &str, cuts: usize) -> usize {
    text.len().saturating_add(cuts.saturating_add(1).saturating_mul(BYTES_PER_FUEL))
}

/// Bytes that `format` makes at most: any place may take the longest argument, and any number in the text, or
/// given where places are nested, may be a width.
fn formatted(text: &str, args: &[Value]) -> Result<usize, Error> {
    let mut longest = 0;
    for arg in args {
        longest = longest.max(match arg.kind() {
            ValueKind::String => arg.as_str().map_or(0, str::len),
            ValueKind::Number | ValueKind::Bool | ValueKind::None | ValueKind::Undefined => 400,
            kind => {
                let reason = format!("format takes texts and numbers, not {kind}");
                return Err(Error::new(ErrorKind::InvalidOperation, reason));
            }
        });
    }
    let numbers = text.split(|c: char| !c.is_ascii_digit()).filter(|digits| !digits.is_empty());
    let written = numbers.map(|digits| digits.parse().unwrap_or(usize::MAX));
    let nested = text.contains(":{") || text.contains(".{");
    let widths = args.iter().filter(|arg| nested && arg.kind() == ValueKind::Number);
    let widths = widths.map(|arg| usize::try_from(arg.clone()).unwrap_or(0));
    let widest = written.chain(widths).fold(longest, usize::max);
    Ok(text.matches('{').count().saturating_mul(widest).saturating_add(text.len()))
}

/// The filter `join`. The library's own counts what it made once all of it is there.
fn join(
    state: &State,
    value: &Value,
    joiner: Option<&str>,
    attribute: Option<&str>,
    options: Kwargs,
) -> Result<String, Error> {
    let attribute = match attribute {
        Some(attribute) => Some(attribute),
        None => options.get::<Option<&str>>("attribute")?,
    };
    options.assert_all_used()?;
    joined(state, value, joiner.unwrap_or_default(), attribute)
}

fn joined(state: &State, value: &Value, joiner: &str, attribute: Option<&str>) -> Result<String, Error> {
    use io::Write as _;
    let mut output = Paid::new(state);
    let mut add = |index: usize, item: Value| {
        let item = attribute.map_or(Ok(item.clone()), |attribute| item.get_attr(attribute))?;
        let joiner = if index == 0 { "" } else { joiner };
        write!(output, "{joiner}{item}").map_err(failed)
    };
    match value.as_str() {
        Some(text) => text.chars().enumerate().try_for_each(|(index, of)| add(index, Value::from(of)))?,
        None => value.try_iter()?.enumerate().try_for_each(|(index, item)| add(index, item))?,
    }
    output.text()
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
    let mut output = Paid::new(state);
    let written = match indent {
        Some(indent) => {
            let space = " ".repeat(indent.min(16));
            let formatter = PrettyFormatter::with_indent(space.as_bytes());
            value.serialize(&mut Serializer::with_formatter(&mut output, formatter))
        }
        None => value.serialize(&mut Serializer::with_formatter(&mut output, Spaced)),
    };
    written.map_err(failed)?;
    output.text()
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::InvalidOperation, error.to_string())
}

/// Output that the template's fuel pays for as it grows.
struct Paid<'a, 'env> {
    state: &'a State<'a, 'env>,
    bytes: Vec<u8>,
    due: usize,
}

impl<'a, 'env> Paid<'a, 'env> {
    fn new(state: &'a State<'a, 'env>) -> Self {
        Self { state, bytes: Vec::new(), due: 0 }
    }

    fn text(self) -> Result<String, Error> {
        String::from_utf8(self.bytes).map_err(failed)
    }
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
        let whole = MAX_TEMPLATE_BYTES - 32;
        // Neither a comment nor raw text nor what looks like an end hides how long a tag is.
        for start in
            ["{{ 1", "{# {{ ' #}{{ a", "{% raw %}{{ ' {% endraw %}{{ 1", "{{ {'a': {'b': 1}}", "{{ '}}' ~ 1"]
        {
            for link in ["+1", "+a", "|abs", ".a", "~1", "**2", " if 1 else 1", "()", "[1]"] {
                let source = format!("{start}{} }}}}", link.repeat((whole - start.len()) / link.len()));
                let error = Template::new(&source).err().map(|error| error.to_string());
                assert!(
                    error.as_ref().is_some_and(|of| of.contains("words and signs")),
                    "{start} {link}: {error:?}"
                );
                let short = format!("{start}{} }}}}", link.repeat(300));
                // It may fail, and must come back.
                drop(render(&short, &[]));
            }
        }
        for (open, close) in [("-", ""), ("not ", ""), ("(", ")"), ("[", "]"), ("{'a':", "}")] {
            let times = whole / (open.len() + close.len());
            let source = format!("{{% set x = {}1{} %}}", open.repeat(times), close.repeat(times));
            assert!(Template::new(&source).is_err(), "{open}");
        }
    }

    #[test]
    fn methods_pay_before_they_work() {
        let big = "{% set b = 'a' * 8000000 %}";
        for (source, fits) in [
            ("{{ b | length }}", true),
            ("{{ b.strip() | length }}", true),
            ("{{ ('{0}' * 10000).format(b) | length }}", false),
            ("{{ '{} {}'.format('a', 1) }}", true),
            ("{{ '{}'.format([b]) | length }}", false),
            ("{{ ''.join([b] * 1000) | length }}", false),
            ("{{ ([b] * 1000) | join | length }}", false),
            ("{{ ', '.join(['a', 'b']) }}", true),
            ("{{ ['a', 'b'] | join(', ') ~ 'ab' | join('-') }}", true),
            ("{{ [{'n': 1}, {'n': 2}] | join('-', attribute='n') }}", true),
            ("{{ b.split('a') | length }}", false),
            ("{{ b.split() | length }}", true),
            ("{{ ('a\n' * 9000000).splitlines() | length }}", false),
            ("{{ b.strip('bcdefghijkl') | length }}", false),
            ("{{ [b].count(b) }}", false),
            ("{% for i in range(1000) %}{% set _ = b.isalpha() %}{% endfor %}", false),
            ("{% for i in range(1000) %}{% set _ = b.startswith(b) %}{% endfor %}", false),
            ("{% set p = [b] * 1000 %}{{ b.startswith(p) }}", false),
            ("{{ b.startswith(('b', 'a')) }}", true),
        ] {
            assert_eq!(render(&format!("{big}{source}"), &[]).is_ok(), fits, "{source}");
        }
    }

    #[test]
    fn a_long_list_in_a_tag() {
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
