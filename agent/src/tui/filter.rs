//! Which processes are shown: those of which a name or id matches what was typed.

use regex::{Regex, RegexBuilder};

use crate::model::interval::ProcessInterval;

/// Longer than any name one would look for.
const MAX_CHARS: usize = 128;
/// Of the compiled expression; `(a{999}){999}` would need more memory than the machine has.
const REGEX_SIZE_LIMIT_BYTES: usize = 1 << 20;

#[derive(Clone, Debug, Default)]
pub struct Filter {
    text: String,
    /// `None`: `text` is empty or no regular expression, and is then looked for as it stands.
    regex: Option<Regex>,
}

impl Filter {
    pub fn new(text: &str) -> Self {
        let text: String = text.chars().filter(|c| !c.is_control()).take(MAX_CHARS).collect();
        let regex =
            RegexBuilder::new(&text).case_insensitive(true).size_limit(REGEX_SIZE_LIMIT_BYTES).build();
        Self { regex: regex.ok().filter(|_| !text.is_empty()), text }
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Typed, but no regular expression.
    pub fn is_substring(&self) -> bool {
        !self.text.is_empty() && self.regex.is_none()
    }

    pub fn matches(&self, process: &ProcessInterval) -> bool {
        let identity = &process.identity;
        self.is_empty()
            || self.matches_text(&identity.name)
            || self.matches_text(&identity.service_name)
            || identity.service_namespace.as_deref().is_some_and(|namespace| self.matches_text(namespace))
            || identity.container_id.as_deref().is_some_and(|id| self.matches_text(id))
            || self.matches_text(&process.id.pid.to_string())
    }

    fn matches_text(&self, text: &str) -> bool {
        match &self.regex {
            Some(regex) => regex.is_match(text),
            None => text.to_lowercase().contains(&self.text.to_lowercase()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    fn names(filter: &str) -> Vec<&'static str> {
        let filter = Filter::new(filter);
        ["checkout-api", "mailer", "web (blue)"]
            .into_iter()
            .filter(|name| filter.matches(&sample::process(4711, name)))
            .collect()
    }

    #[test]
    fn a_filter_is_a_substring_or_a_regular_expression_in_any_case() {
        assert_eq!(names("MAIL"), ["mailer"]);
        assert_eq!(names("^(check|web)"), ["checkout-api", "web (blue)"]);
        assert_eq!(names("^471.$").len(), 3);
        assert_eq!(names("nothing"), [""; 0]);
        assert_eq!(names("").len(), 3);
    }

    #[test]
    fn an_invalid_expression_is_looked_for_as_it_stands() {
        assert_eq!(names("web ("), ["web (blue)"]);
        assert!(Filter::new("web (").is_substring());
        assert!(!Filter::new("web").is_substring());
        assert!(!Filter::new("").is_substring());
    }

    #[test]
    fn an_expression_that_would_eat_the_memory_is_refused() {
        assert!(Filter::new("(a{999}){999}").is_substring());
        assert_eq!(Filter::new(&"x".repeat(10_000)).text().len(), MAX_CHARS);
    }
}
