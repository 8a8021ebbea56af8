//! Which metrics, labels and values an expression of `PromQL` names. Not a parser: `promtool` decides what is one.

use std::collections::BTreeSet;

/// One `name{label="value"}` of an expression.
#[derive(Debug, Default, PartialEq)]
pub struct Selector {
    pub metric: String,
    /// Label, operator, value.
    pub matchers: Vec<(String, String, String)>,
}

/// What an expression names.
#[derive(Debug, Default)]
pub struct Names {
    pub selectors: Vec<Selector>,
    /// Labels in `by (…)`, `on (…)` and the like.
    pub labels: BTreeSet<String>,
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    Text(String),
    Sign(char),
}

/// Words that are no metric and are followed by a list of labels.
const GROUPING: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];
const OPERATORS: [&str; 5] = ["and", "or", "unless", "bool", "offset"];

/// Reads an expression, with Grafana's variables in it or without.
pub fn names(expression: &str) -> Names {
    let tokens = tokens(expression);
    let mut names = Names::default();
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        at += 1;
        match token {
            Token::Word(word) if GROUPING.contains(&word.as_str()) => {
                at += grouping(&tokens[at..], &mut names.labels);
            }
            Token::Word(word) if is_name(word) && !OPERATORS.contains(&word.as_str()) => {
                let next = tokens.get(at);
                let is_function = next == Some(&Token::Sign('('))
                    || matches!(next, Some(Token::Word(word)) if GROUPING[..2].contains(&word.as_str()));
                if is_function {
                    continue;
                }
                let mut selector = Selector { metric: word.clone(), ..Selector::default() };
                if next == Some(&Token::Sign('{')) {
                    let inside = tokens[at..].iter().take_while(|token| **token != Token::Sign('}'));
                    let inside: Vec<Token> = inside.skip(1).cloned().collect();
                    at += inside.len() + 1;
                    selector.matchers = matchers(&inside);
                }
                names.selectors.push(selector);
            }
            // The length of a range is no name.
            Token::Sign('[') => {
                at += tokens[at..].iter().take_while(|token| **token != Token::Sign(']')).count();
            }
            _ => {}
        }
    }
    names
}

/// Takes a list of labels in parentheses, if there is one; returns its length.
fn grouping(tokens: &[Token], labels: &mut BTreeSet<String>) -> usize {
    if tokens.first() != Some(&Token::Sign('(')) {
        return 0;
    }
    let list = tokens.iter().take_while(|token| **token != Token::Sign(')'));
    labels.extend(list.clone().filter_map(|token| match token {
        Token::Word(label) => Some(label.clone()),
        _ => None,
    }));
    list.count()
}

fn matchers(tokens: &[Token]) -> Vec<(String, String, String)> {
    let mut found = Vec::new();
    for matcher in tokens.split(|token| *token == Token::Sign(',')) {
        let [Token::Word(label), signs @ .., Token::Text(value)] = matcher else { continue };
        let operator = signs.iter().filter_map(|sign| match sign {
            Token::Sign(sign) => Some(*sign),
            _ => None,
        });
        found.push((label.clone(), operator.collect(), value.clone()));
    }
    found
}

fn is_name(word: &str) -> bool {
    !word.starts_with(|first: char| first.is_ascii_digit() || first == '.' || first == '$')
}

fn tokens(expression: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = expression;
    while let Some(first) = rest.chars().next() {
        let is_word = |c: char| c.is_ascii_alphanumeric() || "_:.$".contains(c);
        let length = if is_word(first) {
            let length = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            tokens.push(Token::Word(rest[..length].to_owned()));
            length
        } else if first == '"' {
            let length = rest[1..].find('"').map_or(rest.len() - 1, |end| end);
            tokens.push(Token::Text(rest[1..=length].to_owned()));
            length + 2
        } else {
            if !first.is_whitespace() {
                tokens.push(Token::Sign(first));
            }
            first.len_utf8()
        };
        rest = rest.get(length..).unwrap_or("");
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_labels_and_values_are_told_from_functions_and_words() {
        let names = names(
            r#"histogram_quantile(0.99, sum by (le, job) (rate(a_bucket{x="1", y=~"$v|2"}[$__rate_interval])))
               / ignoring (z) group_left () count(b:c offset 1h) and on (w) max without (u) (d) > 1e3"#,
        );
        let metrics: Vec<&str> = names.selectors.iter().map(|selector| selector.metric.as_str()).collect();
        assert_eq!(metrics, ["a_bucket", "b:c", "d"]);
        let text = |words: [&str; 3]| {
            let [label, operator, value] = words.map(str::to_owned);
            (label, operator, value)
        };
        assert_eq!(names.selectors[0].matchers, [text(["x", "=", "1"]), text(["y", "=~", "$v|2"])]);
        assert_eq!(names.labels.iter().map(String::as_str).collect::<Vec<_>>(), ["job", "le", "u", "w", "z"]);
    }
}
