//! The series selectors within a PromQL expression.
//!
//! The expression is walked token by token, not parsed: whether a word is a metric, a function, an aggregation or an
//! operator is told by its place, as in Prometheus' grammar. What only its meaning would forbid (types, unknown
//! functions) passes.

use super::selector_text::{Parser, SelectorError, starts_string, starts_word};
use crate::model::Matcher;

#[cfg(test)]
mod tests;

/// The most selectors in an expression.
const SELECTORS_MAX: usize = 64;

const SET_OPERATORS: [&str; 4] = ["and", "or", "unless", "atan2"];
const GROUPING: [&str; 2] = ["by", "without"];
const MATCHING: [&str; 4] = ["on", "ignoring", "group_left", "group_right"];
const FILLING: [&str; 3] = ["fill", "fill_left", "fill_right"];

/// What may come next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Something that has a value.
    Operand,
    /// The same, right behind an operator, where modifiers of the operator may stand first.
    BehindOperator,
    /// An operator, a modifier or an end.
    Operator,
}

/// Returns the matchers of every selector in an expression, in order.
///
/// # Errors
/// Selectors and strings that do not follow the grammar, words out of place, and too many of either.
pub(super) fn query_selectors(text: &str) -> Result<Vec<Vec<Matcher>>, SelectorError> {
    let mut walk = Walk { parser: Parser::new(text)?, place: Place::Operand, depth: 0, found: Vec::new() };
    loop {
        walk.parser.skip_space();
        match walk.parser.peek() {
            Some(c) => walk.step(c)?,
            None if walk.place == Place::Operator && walk.depth == 0 => return Ok(walk.found),
            None if walk.depth > 0 => return Err(walk.parser.expected(")")),
            None => return Err(walk.parser.expected("an expression")),
        }
    }
}

struct Walk<'a> {
    parser: Parser<'a>,
    place: Place,
    depth: usize,
    found: Vec<Vec<Matcher>>,
}

impl Walk<'_> {
    fn step(&mut self, c: char) -> Result<(), SelectorError> {
        match (c, self.place) {
            ('(', Place::Operand | Place::BehindOperator) => {
                self.parser.accept(c);
                self.depth += 1;
                self.place = Place::Operand;
            }
            // A call may have no arguments.
            (')', Place::Operand | Place::Operator) if self.depth > 0 => {
                self.parser.accept(c);
                self.depth -= 1;
                self.place = Place::Operator;
            }
            (',', Place::Operator) if self.depth > 0 => {
                self.parser.accept(c);
                self.place = Place::Operand;
            }
            ('+' | '-', Place::Operand | Place::BehindOperator) => {
                self.parser.accept(c);
            }
            (_, Place::Operator) => self.operator(c)?,
            ('{', _) => self.selector(None)?,
            (_, _) if starts_string(c) => {
                self.parser.string()?;
                self.place = Place::Operator;
            }
            ('0'..='9' | '.', _) => self.number(),
            (_, _) if starts_word(c) || c == ':' => self.word()?,
            _ => return Err(self.parser.expected("an expression")),
        }
        Ok(())
    }

    /// Reads what stands behind a value.
    fn operator(&mut self, c: char) -> Result<(), SelectorError> {
        match c {
            '[' => return self.parser.skip_past(']'),
            '@' => return self.at_modifier(),
            '+' | '-' | '*' | '/' | '%' | '^' | '=' | '!' | '<' | '>' => {
                while self.parser.peek().is_some_and(|c| "+-*/%^=!<>~".contains(c)) {
                    // A sign belongs to what comes next.
                    let signed = self.parser.peek().is_some_and(|c| matches!(c, '+' | '-'));
                    self.parser.skip_one();
                    if signed {
                        break;
                    }
                }
                self.place = Place::BehindOperator;
                return Ok(());
            }
            _ if starts_word(c) => {}
            _ => return Err(self.parser.expected("an operator")),
        }
        let word = self.parser.word(false).to_ascii_lowercase();
        match word.as_str() {
            "offset" => {
                self.parser.skip_space();
                let _signed = self.parser.accept('-') || self.parser.accept('+');
                self.parser.skip_space();
                self.parser.skip_number();
                Ok(())
            }
            "smoothed" | "anchored" => Ok(()),
            word if GROUPING.contains(&word) => self.list(),
            word if SET_OPERATORS.contains(&word) => {
                self.place = Place::BehindOperator;
                Ok(())
            }
            _ => Err(self.parser.expected("an operator")),
        }
    }

    /// `@ 1.5`, `@ start()`, `@ end()`.
    fn at_modifier(&mut self) -> Result<(), SelectorError> {
        self.parser.accept('@');
        self.parser.skip_space();
        if self.parser.peek().is_some_and(starts_word) {
            self.parser.word(false);
            return self.list();
        }
        let _signed = self.parser.accept('-') || self.parser.accept('+');
        self.parser.skip_number();
        Ok(())
    }

    /// A list in parentheses that holds no expression.
    fn list(&mut self) -> Result<(), SelectorError> {
        self.parser.skip_space();
        if !self.parser.accept('(') {
            return Err(self.parser.expected("("));
        }
        self.parser.skip_past(')')
    }

    fn number(&mut self) {
        self.parser.skip_number();
        self.place = Place::Operator;
    }

    /// A metric, a call, an aggregation with its grouping first, a number in letters, or an operator's modifier.
    fn word(&mut self) -> Result<(), SelectorError> {
        let word = self.parser.word(true).to_owned();
        let lower = word.to_ascii_lowercase();
        self.parser.skip_space();
        if self.place == Place::BehindOperator {
            let is_list = self.parser.peek() == Some('(');
            match lower.as_str() {
                "bool" => return Ok(()),
                name if MATCHING.contains(&name) || FILLING.contains(&name) => {
                    return if is_list { self.list() } else { Ok(()) };
                }
                _ => {}
            }
        }
        match self.parser.peek() {
            Some('(') => {
                self.place = Place::Operand;
                return Ok(());
            }
            Some('{') => return self.selector(Some(word)),
            Some(c) if starts_word(c) && self.parser.next_word_is(&GROUPING) => {
                self.parser.word(false);
                self.list()?;
                // The aggregated expression follows, or else this was a metric's name.
                self.parser.skip_space();
                self.place = Place::Operand;
                return match self.parser.peek() {
                    Some('(') => Ok(()),
                    _ => Err(self.parser.expected("(")),
                };
            }
            _ => {}
        }
        if matches!(lower.as_str(), "inf" | "nan") {
            self.place = Place::Operator;
            return Ok(());
        }
        self.selector(Some(word))
    }

    fn selector(&mut self, name: Option<String>) -> Result<(), SelectorError> {
        if self.found.len() >= SELECTORS_MAX {
            return Err(SelectorError::TooManySelectors);
        }
        self.found.push(self.parser.selector(name)?);
        self.place = Place::Operator;
        Ok(())
    }
}

/// Reads arbitrary bytes as an expression.
///
/// # Panics
/// When more selectors come out than are allowed.
pub fn fuzz_query_selectors(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(selectors) = query_selectors(text) {
        assert!(selectors.len() <= SELECTORS_MAX, "the bound holds");
    }
}
