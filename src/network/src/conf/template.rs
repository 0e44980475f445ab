//! A CNI configuration made from a template and the node's pod address ranges.
//!
//! Templates are those of containerd's `conf_template`, written in the language
//! of Go's text/template (<https://pkg.go.dev/text/template>). Of that language
//! exactly these are understood; anything else is refused by its line:
//!
//! | text | stands for |
//! |---|---|
//! | `{{.PodCIDR}}` | the first range |
//! | `{{range .PodCIDRRanges}}…{{.}}…{{end}}` | each range |
//! | `{{range .Routes}}…{{.}}…{{end}}` | the default route of each family |
//! | `{{range $i, $value := .Routes}}`, `{{range $value := .Routes}}` | the same, with names |
//! | `{{if $i}}…{{end}}` in one with a number | all but the first time |
//! | `{{- …`, `… -}}` | without the white space before or after |
//! | `{{/* … */}}` | nothing |

use insula_cni::Cidr;

/// Most that a template may become, in bytes.
const MAX_RENDERED: usize = 1 << 20;

/// How deep a template's actions may lie in one another.
const MAX_DEPTH: usize = 32;

/// The default route of IPv4, and that of IPv6.
const ROUTES: [&str; 2] = ["0.0.0.0/0", "::/0"];

/// Something of a template.
#[derive(Debug, PartialEq, Eq)]
enum Part<'t> {
    Text(&'t str),
    FirstRange,
    /// The value of the innermost or of the named repetition.
    Value,
    Each {
        list: List,
        parts: Vec<Part<'t>>,
    },
    /// All but the first time around.
    AfterFirst(Vec<Part<'t>>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum List {
    Ranges,
    Routes,
}

/// An action between braces, with its line.
struct Action<'t> {
    line: usize,
    text: &'t str,
}

/// What comes next in a template.
enum Token<'t> {
    Text(&'t str),
    Action(Action<'t>),
}

/// The names that hold in a repetition.
#[derive(Default, Clone, Copy)]
struct Names<'t> {
    number: Option<&'t str>,
    value: Option<&'t str>,
}

/// Renders a template for a node's ranges, of which there is at least one.
///
/// # Errors
/// Says in words what is wrong with the template, and where.
pub fn render(template: &str, ranges: &[Cidr]) -> Result<String, String> {
    let first = ranges.first().ok_or("there is no range of pod addresses")?;
    let tokens = tokens(template)?;
    let mut tokens = tokens.into_iter();
    let parts = parse(&mut tokens, 0, None, None)?;
    let has = |v4: bool| ranges.iter().any(|range| range.address.is_ipv4() == v4);
    let values = Values {
        first: first.to_string(),
        ranges: ranges.iter().map(Cidr::to_string).collect(),
        routes: [has(true), has(false)]
            .into_iter()
            .zip(ROUTES)
            .filter(|(has, _)| *has)
            .map(|(_, route)| route.to_owned())
            .collect(),
    };
    let mut rendered = String::new();
    write(&parts, &values, None, &mut rendered)?;
    Ok(rendered)
}

/// What the names of a template stand for.
struct Values {
    first: String,
    ranges: Vec<String>,
    routes: Vec<String>,
}

/// Takes a template apart.
fn tokens(template: &str) -> Result<Vec<Token<'_>>, String> {
    let mut tokens = Vec::new();
    let mut rest = template;
    let mut trim = false;
    let mut line = 1;
    loop {
        let (mut text, found) = match rest.split_once("{{") {
            Some((text, after)) => (text, Some(after)),
            None => (rest, None),
        };
        line += text.matches('\n').count();
        if trim {
            text = text.trim_start();
        }
        let Some(after) = found else {
            tokens.push(Token::Text(text));
            return Ok(tokens);
        };
        let (action, after) = after
            .split_once("}}")
            .ok_or_else(|| format!("line {line}: `{{{{` without `}}}}`"))?;
        // A dash counts as one only with white space on its inner side.
        let inner = match action.strip_prefix('-') {
            Some(inner) if inner.starts_with(char::is_whitespace) => {
                text = text.trim_end();
                inner
            }
            _ => action,
        };
        let inner = match inner.strip_suffix('-') {
            Some(shorter) if shorter.ends_with(char::is_whitespace) => {
                trim = true;
                shorter
            }
            _ => {
                trim = false;
                inner
            }
        };
        tokens.push(Token::Text(text));
        let text = inner.trim();
        if !(text.starts_with("/*") && text.ends_with("*/")) {
            tokens.push(Token::Action(Action { line, text }));
        }
        line += action.matches('\n').count();
        rest = after;
    }
}

/// Reads up to the end, or up to the `{{end}}` of what `within` opened, which
/// lies in `depth` actions.
fn parse<'t>(
    tokens: &mut std::vec::IntoIter<Token<'t>>,
    depth: usize,
    within: Option<&Action<'t>>,
    names: Option<Names<'t>>,
) -> Result<Vec<Part<'t>>, String> {
    if let Some(action) = within.filter(|_| depth > MAX_DEPTH) {
        return Err(format!(
            "line {}: `{{{{{}}}}}` lies in more than {MAX_DEPTH} others",
            action.line, action.text
        ));
    }
    let mut parts = Vec::new();
    while let Some(token) = tokens.next() {
        let action = match token {
            Token::Text(text) => {
                parts.push(Part::Text(text));
                continue;
            }
            Token::Action(action) => action,
        };
        let unknown = || {
            format!(
                "line {}: `{{{{{}}}}}` is not understood: there are .PodCIDR, range over .PodCIDRRanges or .Routes, and in a range its value and `if` with its number",
                action.line, action.text
            )
        };
        let words: Vec<&str> = action.text.split_whitespace().collect();
        match (&words[..], names) {
            (["end"], _) => {
                return match within {
                    Some(_) => Ok(parts),
                    None => Err(format!("line {}: `{{{{end}}}}` ends nothing", action.line)),
                };
            }
            ([".PodCIDR"], None) => parts.push(Part::FirstRange),
            (["."], Some(_)) => parts.push(Part::Value),
            ([name], Some(names)) if names.value == Some(name) => parts.push(Part::Value),
            (["if", name], Some(names)) if names.number == Some(name) => {
                let within = parse(tokens, depth + 1, Some(&action), Some(names))?;
                parts.push(Part::AfterFirst(within));
            }
            (["range", ..], None) => {
                let (list, names) = head(action.text).ok_or_else(unknown)?;
                let within = parse(tokens, depth + 1, Some(&action), Some(names))?;
                parts.push(Part::Each {
                    list,
                    parts: within,
                });
            }
            _ => return Err(unknown()),
        }
    }
    match within {
        None => Ok(parts),
        Some(action) => Err(format!(
            "line {}: `{{{{{}}}}}` has no `{{{{end}}}}`",
            action.line, action.text
        )),
    }
}

/// The list of a range, and the names it gives.
fn head(text: &str) -> Option<(List, Names<'_>)> {
    let rest = text.strip_prefix("range")?;
    let (names, list) = match rest.split_once(":=") {
        Some((names, list)) => (Some(names), list),
        None => (None, rest),
    };
    let list = match list.trim() {
        ".PodCIDRRanges" => List::Ranges,
        ".Routes" => List::Routes,
        _ => return None,
    };
    let named = |name: &str| {
        name.strip_prefix('$').is_some_and(|name| {
            !name.is_empty() && name.chars().all(|one| one.is_alphanumeric() || one == '_')
        })
    };
    let names = match names.map(|names| names.split(',').map(str::trim).collect::<Vec<_>>()) {
        None => Names::default(),
        Some(given) if !given.iter().all(|name| named(name)) => return None,
        Some(given) => match given[..] {
            [value] => Names {
                number: None,
                value: Some(value),
            },
            [number, value] => Names {
                number: Some(number),
                value: Some(value),
            },
            _ => return None,
        },
    };
    Some((list, names))
}

/// Writes what the parts stand for; in a repetition, the how manieth time it is
/// and its value.
fn write(
    parts: &[Part<'_>],
    values: &Values,
    turn: Option<(usize, &str)>,
    into: &mut String,
) -> Result<(), String> {
    for part in parts {
        match (part, turn) {
            (Part::Text(text), _) => into.push_str(text),
            (Part::FirstRange, _) => into.push_str(&values.first),
            (Part::Value, turn) => into.push_str(turn.map_or("", |(_, value)| value)),
            (Part::AfterFirst(parts), Some((number, _))) if number > 0 => {
                write(parts, values, turn, into)?;
            }
            (Part::AfterFirst(_), _) => {}
            (Part::Each { list, parts }, _) => {
                let list = match list {
                    List::Ranges => &values.ranges,
                    List::Routes => &values.routes,
                };
                for (number, value) in list.iter().enumerate() {
                    write(parts, values, Some((number, value)), into)?;
                }
            }
        }
        if into.len() > MAX_RENDERED {
            return Err(format!("it becomes more than {MAX_RENDERED} bytes"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::render;
    use crate::attachment::parse_cidrs;
    use proptest::prelude::*;

    fn rendered(template: &str, ranges: &str) -> Result<String, String> {
        render(template, &parse_cidrs(ranges).unwrap())
    }

    #[test]
    fn what_is_understood_is_as_go_renders_it() {
        let dual = "10.1.0.0/24, fd00:1::/64";
        for (template, ranges, want) in [
            (
                "plain {not} }} a template\n",
                dual,
                "plain {not} }} a template\n",
            ),
            ("\"{{.PodCIDR}}\"", dual, "\"10.1.0.0/24\""),
            ("\"{{ .PodCIDR }}\"", "fd00::/64", "\"fd00::/64\""),
            (
                "{{range .PodCIDRRanges}}[{{.}}]{{end}}",
                dual,
                "[10.1.0.0/24][fd00:1::/64]",
            ),
            (
                "{{range $i, $r := .PodCIDRRanges}}{{if $i}}, {{end}}{{$r}}{{end}}",
                dual,
                "10.1.0.0/24, fd00:1::/64",
            ),
            (
                "{{range $r := .Routes}}{{$r}} {{end}}",
                dual,
                "0.0.0.0/0 ::/0 ",
            ),
            ("{{range .Routes}}{{.}} {{end}}", "fd00::/64", "::/0 "),
            (
                "{{range .Routes}}{{.}} {{end}}",
                "10.1.0.0/24",
                "0.0.0.0/0 ",
            ),
            ("a \n {{- .PodCIDR -}} \n b", "10.1.0.0/24", "a10.1.0.0/24b"),
            ("a{{/* nothing */}}b{{- /* at all */ -}} c", dual, "abc"),
        ] {
            assert_eq!(
                rendered(template, ranges).as_deref(),
                Ok(want),
                "{template}"
            );
        }
    }

    #[test]
    fn what_is_not_understood_is_refused_by_its_line() {
        for (template, want) in [
            ("{{.Other}}", "line 1: `{{.Other}}` is not understood"),
            ("\n\n{{printf \"%s\" .PodCIDR}}", "line 3: `{{printf"),
            ("\n{{range .Other}}{{end}}", "line 2: `{{range .Other}}`"),
            ("{{range $i, $j, $k := .Routes}}{{end}}", "line 1"),
            ("{{range i := .Routes}}{{end}}", "line 1"),
            (
                "{{range .Routes}}\n{{.PodCIDR}}{{end}}",
                "line 2: `{{.PodCIDR}}`",
            ),
            ("{{range .Routes}}{{range .Routes}}{{end}}{{end}}", "line 1"),
            (
                "{{range .Routes}}{{if .}}{{end}}{{end}}",
                "line 1: `{{if .}}`",
            ),
            (
                "{{range $i, $r := .Routes}}{{if $i}}{{else}}{{end}}{{end}}",
                "`{{else}}`",
            ),
            ("{{.}}", "line 1: `{{.}}`"),
            ("{{$r}}", "line 1: `{{$r}}`"),
            (
                "\n{{range .Routes}}",
                "line 2: `{{range .Routes}}` has no `{{end}}`",
            ),
            ("{{end}}", "line 1: `{{end}}` ends nothing"),
            ("a\n{{.PodCIDR", "line 2: `{{` without `}}`"),
            ("{{}}", "line 1: `{{}}`"),
        ] {
            let why = rendered(template, "10.1.0.0/24").unwrap_err();
            assert!(why.contains(want), "{template}: {why}");
        }
        assert!(rendered("", "").is_err());
        let large = format!("{{{{range .Routes}}}}{}{{{{end}}}}", "x".repeat(600_000));
        assert!(rendered(&large, "10.1.0.0/24,fd00::/64").is_err());
    }

    #[test]
    fn actions_lie_in_one_another_to_a_bound() {
        let nested = |depth: usize| {
            let (begin, end) = ("{{if $i}}".repeat(depth), "{{end}}".repeat(depth));
            format!("{{{{range $i, $r := .Routes}}}}{begin}x{end}{{{{end}}}}")
        };
        let (few, many) = (nested(31), nested(100_000));
        assert_eq!(rendered(&few, "10.1.0.0/24,fd00::/64").as_deref(), Ok("x"));
        let refusal = rendered(&many, "10.1.0.0/24").unwrap_err();
        assert_eq!(refusal, "line 1: `{{if $i}}` lies in more than 32 others");
    }

    proptest! {
        #[test]
        fn no_template_upsets_it(
            parts in prop::collection::vec(
                prop_oneof![
                    Just("{{".to_owned()), Just("}}".to_owned()), Just("- ".to_owned()),
                    Just(" -".to_owned()), Just("range .Routes".to_owned()),
                    Just("end".to_owned()), Just("/*".to_owned()), ".{0,5}"
                ],
                0..20,
            )
        ) {
            let _ = rendered(&parts.concat(), "10.1.0.0/24,fd00::/64");
        }

        #[test]
        fn what_holds_no_action_stays(text in "[^{}]{0,80}") {
            prop_assert_eq!(rendered(&text, "10.1.0.0/24"), Ok(text));
        }
    }
}
