//! Series selectors as Prometheus writes them: `name{a="b",c=~"d"}`, `{"quoted.name"}`.

use std::iter::Peekable;
use std::str::CharIndices;

use crate::model::{METRIC_NAME, MatchKind, Matcher, MatcherError};

#[cfg(test)]
mod tests;

/// The longest selector that is read.
const SELECTOR_BYTES_MAX: usize = 64 << 10;

/// The most matchers in a selector.
const MATCHERS_MAX: usize = 128;

/// Why a selector was refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// It has too many bytes.
    #[error("the selector is longer than {SELECTOR_BYTES_MAX} bytes")]
    TooLong,
    /// It has too many matchers.
    #[error("the selector has more than {MATCHERS_MAX} matchers")]
    TooMany,
    /// An expression has too many selectors.
    #[error("the expression has more than 64 selectors")]
    TooManySelectors,
    /// Something else was expected.
    #[error("parse error at byte {at}: expected {expected}")]
    Syntax {
        /// Where, in bytes.
        at: usize,
        /// What was expected.
        expected: &'static str,
    },
    /// A string is not valid.
    #[error("parse error at byte {at}: {what}")]
    Text {
        /// Where, in bytes.
        at: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// The metric's name is there twice.
    #[error("metric name must not be set twice: {0:?} or {1:?}")]
    NameTwice(String, String),
    /// A regular expression is not valid.
    #[error(transparent)]
    Matcher(#[from] MatcherError),
}

/// Reads a series selector.
///
/// # Errors
/// What does not follow the grammar, and texts that are too long.
pub fn parse_selector(text: &str) -> Result<Vec<Matcher>, SelectorError> {
    let mut parser = Parser::new(text)?;
    parser.skip_space();
    let mut name = None;
    if parser.peek().is_some_and(|c| starts_word(c) || c == ':') {
        name = Some(parser.word(true).to_owned());
        parser.skip_space();
    }
    if name.is_none() && parser.peek() != Some('{') {
        return Err(parser.expected("a metric name or {"));
    }
    let matchers = parser.selector(name)?;
    parser.skip_space();
    if parser.peek().is_some() {
        return Err(parser.expected("the end of the selector"));
    }
    Ok(matchers)
}

pub(super) const fn starts_word(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_'
}

/// Reads selectors and what stands around them, from left to right.
pub(super) struct Parser<'a> {
    text: &'a str,
    chars: Peekable<CharIndices<'a>>,
}

impl<'a> Parser<'a> {
    pub(super) fn new(text: &'a str) -> Result<Self, SelectorError> {
        if text.len() > SELECTOR_BYTES_MAX {
            return Err(SelectorError::TooLong);
        }
        Ok(Self { text, chars: text.char_indices().peekable() })
    }

    /// Reads the rest of a selector whose name, if it stands before the braces, was read.
    pub(super) fn selector(&mut self, mut name: Option<String>) -> Result<Vec<Matcher>, SelectorError> {
        let mut matchers = Vec::new();
        if self.peek() == Some('{') {
            self.matchers(&mut name, &mut matchers)?;
        }
        if let Some(name) = name {
            let named = |m: &&Matcher| m.name() == METRIC_NAME && m.kind() == MatchKind::Equal;
            if let Some(other) = matchers.iter().find(named) {
                return Err(SelectorError::NameTwice(name, other.value().to_owned()));
            }
            matchers.push(Matcher::equal(METRIC_NAME, name));
        }
        Ok(matchers)
    }

    pub(super) fn peek(&mut self) -> Option<char> {
        self.chars.peek().map(|(_, c)| *c)
    }

    fn at(&mut self) -> usize {
        self.chars.peek().map_or(self.text.len(), |(at, _)| *at)
    }

    pub(super) fn expected(&mut self, expected: &'static str) -> SelectorError {
        SelectorError::Syntax { at: self.at(), expected }
    }

    /// Steps over white space and comments.
    pub(super) fn skip_space(&mut self) {
        while let Some(c) = self.peek() {
            if c == '#' {
                while self.chars.next_if(|(_, c)| *c != '\n').is_some() {}
            } else if !matches!(c, ' ' | '\t' | '\n' | '\r') {
                return;
            }
            self.chars.next();
        }
    }

    pub(super) fn accept(&mut self, wanted: char) -> bool {
        self.chars.next_if(|(_, c)| *c == wanted).is_some()
    }

    pub(super) fn word(&mut self, colons: bool) -> &'a str {
        let start = self.at();
        let inside = |c: char| c.is_ascii_alphanumeric() || c == '_' || (colons && c == ':');
        while self.chars.next_if(|(_, c)| inside(*c)).is_some() {}
        let end = self.at();
        &self.text[start..end]
    }

    pub(super) fn skip_one(&mut self) {
        self.chars.next();
    }

    /// Steps past the next `end`; nothing that holds it stands before.
    pub(super) fn skip_past(&mut self, end: char) -> Result<(), SelectorError> {
        for (_, c) in self.chars.by_ref() {
            if c == end {
                return Ok(());
            }
        }
        Err(self.expected("a closing bracket"))
    }

    /// Steps over a number or duration: digits, letters, dots, and signs of exponents.
    pub(super) fn skip_number(&mut self) {
        let (mut before, mut hex) = (' ', false);
        while let Some(c) = self.peek() {
            let is_exponent = matches!(c, '+' | '-') && matches!(before, 'e' | 'E') && !hex;
            if !(c.is_ascii_alphanumeric() || c == '.' || c == '_' || is_exponent) {
                return;
            }
            hex |= matches!(c, 'x' | 'X');
            before = c;
            self.chars.next();
        }
    }

    /// Returns whether one of some words, in any case, comes next.
    pub(super) fn next_word_is(&mut self, words: &[&str]) -> bool {
        let rest = &self.text[self.at()..];
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        words.iter().any(|word| word.eq_ignore_ascii_case(&rest[..end]))
    }

    /// Reads `{…}`: matchers and at most one quoted metric name.
    fn matchers(
        &mut self,
        name: &mut Option<String>,
        matchers: &mut Vec<Matcher>,
    ) -> Result<(), SelectorError> {
        self.accept('{');
        loop {
            self.skip_space();
            if self.accept('}') {
                return Ok(());
            }
            if matchers.len() >= MATCHERS_MAX {
                return Err(SelectorError::TooMany);
            }
            self.matcher(name, matchers)?;
            self.skip_space();
            if !self.accept(',') && self.peek() != Some('}') {
                return Err(self.expected(", or }"));
            }
        }
    }

    fn matcher(
        &mut self,
        name: &mut Option<String>,
        matchers: &mut Vec<Matcher>,
    ) -> Result<(), SelectorError> {
        let quoted = self.peek().is_some_and(starts_string);
        let label = match self.peek() {
            Some(_) if quoted => self.string()?,
            Some(c) if starts_word(c) => self.word(false).to_owned(),
            _ => return Err(self.expected("a label name")),
        };
        self.skip_space();
        if quoted && matches!(self.peek(), Some(',' | '}')) {
            return match name.replace(label.clone()) {
                Some(first) => Err(SelectorError::NameTwice(first, label)),
                None => Ok(()),
            };
        }
        let kind = self.operator()?;
        self.skip_space();
        if !self.peek().is_some_and(starts_string) {
            return Err(self.expected("a string"));
        }
        let value = self.string()?;
        matchers.push(Matcher::new(kind, label, value)?);
        Ok(())
    }

    fn operator(&mut self) -> Result<MatchKind, SelectorError> {
        if self.accept('=') {
            return Ok(if self.accept('~') { MatchKind::Regex } else { MatchKind::Equal });
        }
        if self.accept('!') {
            if self.accept('=') {
                return Ok(MatchKind::NotEqual);
            }
            if self.accept('~') {
                return Ok(MatchKind::NotRegex);
            }
        }
        Err(self.expected("=, !=, =~ or !~"))
    }

    /// Reads a string in double or single quotes, with escapes, or in backticks, as it stands.
    pub(super) fn string(&mut self) -> Result<String, SelectorError> {
        let start = self.at();
        let Some((_, quote)) = self.chars.next() else { return Err(self.expected("a string")) };
        let mut bytes = Vec::new();
        loop {
            let at = self.at();
            match self.chars.next() {
                Some((_, c)) if c == quote => break,
                Some((_, '\\')) if quote != '`' => self.escape(quote, at, &mut bytes)?,
                Some((_, '\n')) if quote != '`' => {
                    return Err(SelectorError::Text { at, what: "a line ends within a string" });
                }
                Some((_, c)) => put_char(c, &mut bytes),
                None => return Err(SelectorError::Text { at: start, what: "the string has no end" }),
            }
        }
        let not_text = |_| SelectorError::Text { at: start, what: "the string is not UTF-8 once unescaped" };
        String::from_utf8(bytes).map_err(not_text)
    }

    /// Reads what stands after a backslash.
    fn escape(&mut self, quote: char, at: usize, out: &mut Vec<u8>) -> Result<(), SelectorError> {
        let byte = match self.chars.next().map(|(_, c)| c) {
            Some('a') => 0x07,
            Some('b') => 0x08,
            Some('f') => 0x0C,
            Some('n') => b'\n',
            Some('r') => b'\r',
            Some('t') => b'\t',
            Some('v') => 0x0B,
            Some('\\') => b'\\',
            Some(c) if c == quote => c as u8,
            Some(c @ '0'..='7') => self.digits(2, 8, at, c as u32 - '0' as u32)? as u8,
            Some('x') => self.digits(2, 16, at, 0)? as u8,
            Some('u') => return self.code_point(4, at, out),
            Some('U') => return self.code_point(8, at, out),
            _ => return Err(SelectorError::Text { at, what: "the escape sequence is not known" }),
        };
        out.push(byte);
        Ok(())
    }

    fn code_point(&mut self, digits: usize, at: usize, out: &mut Vec<u8>) -> Result<(), SelectorError> {
        let invalid = SelectorError::Text { at, what: "the escape sequence is not a Unicode code point" };
        put_char(char::from_u32(self.digits(digits, 16, at, 0)?).ok_or(invalid)?, out);
        Ok(())
    }

    /// Reads digits of an escape for a byte (three octal, two hexadecimal) or a code point.
    fn digits(&mut self, count: usize, radix: u32, at: usize, first: u32) -> Result<u32, SelectorError> {
        let mut number = first;
        for _ in 0..count {
            let digit = self.chars.next().and_then(|(_, c)| c.to_digit(radix));
            let invalid = SelectorError::Text { at, what: "the escape sequence lacks digits" };
            number = number.saturating_mul(radix).saturating_add(digit.ok_or(invalid)?);
        }
        if radix == 8 && number > 0xFF {
            return Err(SelectorError::Text { at, what: "the octal escape is above \\377" });
        }
        Ok(number)
    }
}

pub(super) const fn starts_string(c: char) -> bool {
    matches!(c, '"' | '\'' | '`')
}

fn put_char(c: char, out: &mut Vec<u8>) {
    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}
