//! Every expression of every panel, variable and rule, as a database can be asked for it.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use crate::{
    boards::{Expression, panel_expressions, rule_expressions, rules, variable_expressions},
    prometheus::query,
    promql::names,
    wait::observe_for,
};

/// From when on an expression that is still empty stays so.
const PATIENCE: Duration = Duration::from_secs(55);
/// Asked for, but empty within minutes, and why.
const EXCUSED: [(&str, &str); 4] = [
    ("NodeprobeAbsent", "an agent is there"),
    ("NodeprobeGone", "compares with an hour ago"),
    ("NodejsHeapLimitWithinHours", "a process has to be an hour old"),
    ("NodejsHeapLimitWithinMinutes", "a process has to be 20 minutes old"),
];

/// Whom to ask.
#[derive(Clone, Copy, Debug)]
pub struct Database {
    pub name: &'static str,
    pub port: u16,
    /// Whether it evaluates the rules.
    pub has_rules: bool,
}

/// What is to be asked.
pub struct Questions {
    /// Must have an answer where processes are sick.
    pub answered: Vec<Expression>,
    /// Must be understood.
    pub understood: Vec<Expression>,
}

impl Questions {
    /// All of them. Of the rules it is asked what they look at, whether they would fire or not.
    ///
    /// # Panics
    /// When there is no rule any more that is excused.
    pub fn of_boards_and_rules() -> Self {
        let fill = |Expression { place, text }| Expression { place, text: filled(&text) };
        let panels = panel_expressions().into_iter().map(fill);
        let variables = variable_expressions().into_iter().map(|(expression, _)| fill(expression));
        let rules = rule_expressions().into_iter().map(|Expression { place, text }| {
            let text = relaxed(&text);
            Expression { place, text }
        });
        let all = panels.chain(variables).chain(rules);
        let is_excused = |expression: &Expression| EXCUSED.iter().any(|(name, _)| expression.place == *name);
        let (understood, answered): (Vec<_>, Vec<_>) = all.partition(is_excused);
        assert_eq!(understood.len(), EXCUSED.len(), "each that is excused is a rule: {understood:?}");
        Self { answered, understood }
    }

    /// Leaves out what names one of these metrics: nothing here has it.
    pub fn leave_out(&mut self, metrics: &[&str]) {
        self.answered.retain(|expression| !metrics.iter().any(|metric| expression.text.contains(metric)));
    }

    /// Asks until each has an answer; returns those that have none.
    ///
    /// # Panics
    /// When a database does not understand one.
    pub fn unanswered(&self, databases: &[Database]) -> Vec<String> {
        let recorded: BTreeSet<String> = rules("recording").into_iter().map(|rule| rule.name).collect();
        let needs_rules = |expression: &Expression| {
            names(&expression.text).selectors.iter().any(|selector| recorded.contains(&selector.metric))
        };
        let mut waiting: Vec<(&Database, &Expression)> = Vec::new();
        for database in databases {
            let asked =
                self.answered.iter().filter(|expression| database.has_rules || !needs_rules(expression));
            waiting.extend(asked.map(|expression| (database, expression)));
        }
        for database in databases.iter().filter(|database| database.has_rules) {
            for expression in &self.understood {
                has_data(database.port, expression);
            }
        }
        eprintln!("  {} questions", waiting.len());
        let end = Instant::now() + PATIENCE;
        loop {
            waiting.retain(|(database, expression)| !has_data(database.port, expression));
            if waiting.is_empty() || Instant::now() > end {
                let sentence = |(database, expression): &(&Database, &Expression)| {
                    format!("{} has nothing for {}: {}", database.name, expression.place, expression.text)
                };
                return waiting.iter().map(sentence).collect();
            }
            observe_for(Duration::from_secs(1));
        }
    }
}

/// What Grafana puts in for *All*, and for exports each second.
fn filled(expression: &str) -> String {
    let variables = ["$cluster", "$namespace", "$service", "$instance"];
    let filled = variables.iter().fold(expression.to_owned(), |text, name| text.replace(name, ".*"));
    // More than the test takes: a board that shows what was before the processes began, too.
    filled.replace("$__rate_interval", "20s").replace("$__range", "10m")
}

/// The same without its comparisons with numbers: what an alert looks at, whether it is bad or not.
fn relaxed(expression: &str) -> String {
    let mut words: Vec<String> = expression.split(' ').map(str::to_owned).collect();
    for index in 1..words.len() {
        let is_comparison = [">", ">=", "=="].contains(&words[index - 1].as_str());
        if is_comparison && words[index].parse::<f64>().is_ok() {
            ">=".clone_into(&mut words[index - 1]);
            "-1e30".clone_into(&mut words[index]);
        }
    }
    words.join(" ")
}

fn has_data(port: u16, expression: &Expression) -> bool {
    let found = query(port, &expression.text).unwrap_or_else(|error| panic!("{expression:?}: {error}"));
    found.iter().any(|(_, value)| !value.is_nan())
}
