//! RE2's syntax, rewritten into that of the `regex` crate.
//!
//! The two differ in what is a class (`\d \s \w \b` are ASCII in RE2), in brackets (`[`, `&&`, `--` and `~~` are
//! literals), in `\Q…\E`, octal escapes, `\<` and `\>`, in braces that are no repetition, and in what is refused:
//! `(?x)`, stacked repetitions, more than 1,000 of them. Everything that could be read in two ways is written out.

use std::collections::HashSet;

use super::class::perl_class;

/// Longer expressions are refused.
const PATTERN_BYTES_MAX: usize = 256 << 10;

/// How often something may be repeated, repetitions within it multiplied.
const REPEAT_MAX: u32 = 1_000;

/// Case-insensitive, `^` and `$` at lines, `.` matches newlines, greediness swapped.
const FLAGS: [char; 4] = ['i', 'm', 's', 'U'];

/// The bounds of a repetition; no most is no bound.
struct Times {
    least: u32,
    most: Option<u32>,
}

/// What a repetition operator would stand behind.
#[derive(Clone, Copy)]
enum Before {
    Nothing,
    /// Something that already unfolds so many times within.
    Atom(u32),
    Repetition,
}

/// Reads an expression from the front and writes its translation.
pub(super) struct Scanner<'a> {
    pub(super) rest: &'a str,
    pub(super) out: String,
    pub(super) unicode_classes: usize,
    /// For the expression and each open group: how often its most repeated part unfolds.
    open: Vec<u32>,
    names: HashSet<&'a str>,
    before: Before,
}

/// Returns an expression of the `regex` crate that matches what the RE2 expression does.
pub(super) fn translate(pattern: &str) -> Result<String, String> {
    if pattern.len() > PATTERN_BYTES_MAX {
        return Err(format!("it is longer than {PATTERN_BYTES_MAX} bytes"));
    }
    let mut scanner = Scanner {
        rest: pattern,
        out: String::with_capacity(pattern.len() + 16),
        unicode_classes: 0,
        open: vec![1],
        names: HashSet::new(),
        before: Before::Nothing,
    };
    while let Some(c) = scanner.next_char() {
        scanner.step(c)?;
    }
    if scanner.open.len() > 1 { Err("a ( has no closing )".to_owned()) } else { Ok(scanner.out) }
}

impl Scanner<'_> {
    pub(super) fn next_char(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let c = chars.next()?;
        self.rest = chars.as_str();
        Some(c)
    }

    pub(super) fn eat(&mut self, text: &str) -> bool {
        match self.rest.strip_prefix(text) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn step(&mut self, c: char) -> Result<(), String> {
        match c {
            '(' => self.open_group()?,
            ')' => {
                if self.open.len() == 1 {
                    return Err("a ) has no opening (".to_owned());
                }
                let unfolds = self.open.pop().unwrap_or(1);
                self.out.push(')');
                self.atom(unfolds);
            }
            '|' => {
                self.out.push('|');
                self.before = Before::Nothing;
            }
            '*' => self.repeat("*", None)?,
            '+' => self.repeat("+", None)?,
            '?' => self.repeat("?", None)?,
            '{' => match self.braces()? {
                Some((text, times)) => self.repeat(&text, Some(times))?,
                None => self.literal('{'),
            },
            '[' => {
                self.bracket()?;
                self.atom(1);
            }
            '.' | '^' | '$' => {
                self.out.push(c);
                self.atom(1);
            }
            '\\' => self.escape()?,
            _ => self.literal(c),
        }
        Ok(())
    }

    /// Notes that something was written that can be repeated.
    fn atom(&mut self, unfolds: u32) {
        self.before = Before::Atom(unfolds);
        if let Some(most) = self.open.last_mut() {
            *most = unfolds.max(*most);
        }
    }

    fn literal(&mut self, c: char) {
        if regex_syntax::is_meta_character(c) {
            self.out.push('\\');
        }
        self.out.push(c);
        self.atom(1);
    }

    /// Writes a repetition operator; `times` are the bounds of one in braces.
    fn repeat(&mut self, text: &str, times: Option<Times>) -> Result<(), String> {
        let unfolds = match self.before {
            Before::Nothing => return Err(format!("{text} has nothing to repeat")),
            Before::Repetition => return Err(format!("{text} stands behind another repetition")),
            Before::Atom(unfolds) => unfolds,
        };
        if let Some(Times { least, most }) = times {
            let unfolds = unfolds.saturating_mul(most.unwrap_or(least).max(1));
            let repeats = least >= 2 || most.is_some_and(|most| most >= 2);
            if repeats && unfolds > REPEAT_MAX {
                return Err(format!("{text} repeats more than {REPEAT_MAX} times in all"));
            }
            self.atom(unfolds);
        }
        self.out.push_str(text);
        if self.eat("?") {
            self.out.push('?');
        }
        self.before = Before::Repetition;
        Ok(())
    }

    /// Takes what follows `{` of `{n}`, `{n,}` or `{n,m}`. Other braces are literals.
    fn braces(&mut self) -> Result<Option<(String, Times)>, String> {
        let len = self.rest.bytes().take_while(|b| b.is_ascii_digit() || *b == b',').count();
        let (inner, after) = self.rest.split_at(len);
        let number = |digits: &str| {
            let plain = match digits.as_bytes() {
                [] => false,
                [b'0', more @ ..] => more.is_empty(),
                all => all.iter().all(u8::is_ascii_digit),
            };
            plain.then(|| digits.parse().unwrap_or(u32::MAX))
        };
        let times = match inner.split_once(',') {
            None => number(inner).map(|n| Times { least: n, most: Some(n) }),
            Some((least, "")) => number(least).map(|n| Times { least: n, most: None }),
            Some((least, most)) => {
                number(least).zip(number(most)).map(|(n, m)| Times { least: n, most: Some(m) })
            }
        };
        let (Some(times), Some(after)) = (times, after.strip_prefix('}')) else { return Ok(None) };
        let Times { least, most } = times;
        if least > REPEAT_MAX || most.is_some_and(|most| most > REPEAT_MAX || most < least) {
            return Err(format!("{{{inner}}} is not a range within 0 to {REPEAT_MAX}"));
        }
        self.rest = after;
        Ok(Some((format!("{{{inner}}}"), times)))
    }

    /// Translates what follows a backslash outside of brackets.
    fn escape(&mut self) -> Result<(), String> {
        let mut ahead = self.rest.chars();
        let letter = ahead.next().ok_or("it ends in a backslash")?;
        let written = match letter {
            'A' => r"\A",
            'z' => r"\z",
            'b' => r"(?-u:\b)",
            'B' => r"(?-u:\B)",
            'Q' => {
                self.rest = ahead.as_str();
                self.quoted();
                return Ok(());
            }
            'p' | 'P' => {
                self.rest = ahead.as_str();
                self.unicode_class(letter == 'P')?;
                ""
            }
            _ => match perl_class(letter) {
                Some(class) => class,
                None => {
                    let c = self.escaped_char()?;
                    self.literal(c);
                    return Ok(());
                }
            },
        };
        if !written.is_empty() {
            self.rest = ahead.as_str();
            self.out.push_str(written);
        }
        self.atom(1);
        Ok(())
    }

    /// Takes literals up to `\E` or the end.
    fn quoted(&mut self) {
        let (text, after) = self.rest.split_once(r"\E").unwrap_or((self.rest, ""));
        self.rest = after;
        for c in text.chars() {
            self.literal(c);
        }
    }

    /// Translates what follows `(`. No group captures, as nothing asks for what was captured.
    fn open_group(&mut self) -> Result<(), String> {
        if self.eat("?P<")
            || (!self.rest.starts_with("?<=") && !self.rest.starts_with("?<!") && self.eat("?<"))
        {
            self.group_name()?;
        } else if self.eat("?") {
            return self.flags();
        }
        self.enter("(?:");
        Ok(())
    }

    fn enter(&mut self, opening: &str) {
        self.out.push_str(opening);
        self.open.push(1);
        self.before = Before::Nothing;
    }

    fn group_name(&mut self) -> Result<(), String> {
        let (name, after) = self.rest.split_once('>').ok_or("a group name has no closing >")?;
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return Err(format!("{name:?} is not a group name"));
        }
        if !self.names.insert(name) {
            return Err(format!("group name {name:?} stands twice"));
        }
        self.rest = after;
        Ok(())
    }

    /// Takes the flags of `(?flags)` or `(?flags:`; of one that is named twice the last stays.
    fn flags(&mut self) -> Result<(), String> {
        let mut flags: [Option<bool>; 4] = [None; 4];
        let (mut on, mut named) = (true, true);
        loop {
            let c = self.next_char().ok_or("a (? has no closing )")?;
            if let Some(flag) = FLAGS.iter().position(|f| *f == c) {
                flags[flag] = Some(on);
                named = true;
            } else if c == '-' && on {
                (on, named) = (false, false);
            } else if matches!(c, ':' | ')') && named {
                self.put_flags(flags, c);
                return Ok(());
            } else {
                return Err(format!(
                    "(?…{c} is not a group: the flags are i, m, s and U, and nothing looks around"
                ));
            }
        }
    }

    fn put_flags(&mut self, flags: [Option<bool>; 4], end: char) {
        let set = |to: bool| FLAGS.iter().zip(flags).filter(move |(_, f)| *f == Some(to)).map(|(c, _)| *c);
        let mut text: String = "(?".chars().chain(set(true)).collect();
        if set(false).next().is_some() {
            text.push('-');
            text.extend(set(false));
        }
        if end == ':' {
            text.push(':');
            self.enter(&text);
        } else if text.len() > 2 {
            text.push(')');
            self.out.push_str(&text);
            self.before = Before::Nothing;
        }
    }
}
