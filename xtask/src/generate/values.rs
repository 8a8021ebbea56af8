//! The table of values in the chart's README, from the comments of `values.yaml`: a line `# -- text` before a key.

use anyhow::{Context, Result, bail};

const BEGIN: &str = "<!-- values: begin, written by `cargo xtask gen` -->\n";
const END: &str = "<!-- values: end -->\n";

/// The README with its table made anew.
pub(super) fn updated(readme: &str, values: &str) -> Result<String> {
    let marks = "helm/nodeprobe/README.md lacks the marks of the table";
    let (before, rest) = readme.split_once(BEGIN).context(marks)?;
    let (_, after) = rest.split_once(END).context(marks)?;
    Ok(format!("{before}{BEGIN}{}{END}{after}", table(values)?))
}

/// Understands what `values.yaml` is made of: maps in block style, everything else on the line of its key.
fn table(values: &str) -> Result<String> {
    let mut table = "| value | default | |\n| --- | --- | --- |\n".to_owned();
    let mut above: Vec<(usize, &str)> = Vec::new();
    let mut told = None;
    for (index, line) in values.lines().enumerate() {
        let text = line.trim_start();
        if let Some(sentence) = text.strip_prefix("# -- ") {
            told = Some(sentence);
        }
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let (key, default) = text.split_once(':').with_context(|| {
            format!("values.yaml:{}: not `key: value` on one line, which this generator reads", index + 1)
        })?;
        let indent = line.len() - text.len();
        above.retain(|(of_parent, _)| *of_parent < indent);
        above.push((indent, key));
        let path = above.iter().map(|(_, key)| *key).collect::<Vec<_>>().join(".");
        match (told.take(), default.trim()) {
            // The head of a map.
            (None, "") => {}
            (Some(sentence), default) if !default.is_empty() => {
                let row = format!("| `{path}` | `{default}` | {} |\n", sentence.replace('|', "\\|"));
                table.push_str(&row);
            }
            _ => bail!(
                "values.yaml:{}: a value has a line `# -- ...` before it, a map none: `{path}`",
                index + 1
            ),
        }
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_values_are_named_by_their_path() {
        let values = "# head\nimage:\n  # -- Name\n  name: x\n  deep:\n    # -- A|B\n    list: [{a: b}]\n# -- Last\nlast: \"\"\n";
        let table = table(values).unwrap();
        assert_eq!(
            table.lines().skip(2).collect::<Vec<_>>(),
            [
                "| `image.name` | `x` | Name |",
                "| `image.deep.list` | `[{a: b}]` | A\\|B |",
                "| `last` | `\"\"` | Last |"
            ]
        );
    }

    #[test]
    fn a_value_without_a_word_about_it_is_an_error() {
        for values in ["a: 1\n", "# -- A map\na:\n  # -- B\n  b: 1\n", "a:\n  - b\n"] {
            assert!(table(values).is_err(), "{values}");
        }
    }

    #[test]
    fn the_readme_of_the_chart_is_what_its_values_say() {
        let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/../helm/nodeprobe");
        let read = |name: &str| std::fs::read_to_string(format!("{chart}/{name}")).unwrap();
        let readme = read("README.md");
        assert!(updated(&readme, &read("values.yaml")).unwrap() == readme, "run `cargo xtask gen`");
    }

    #[test]
    fn only_the_table_is_replaced() {
        let readme = format!("before\n{BEGIN}old\n{END}after\n");
        let new = updated(&readme, "# -- A\na: 1\n").unwrap();
        assert!(new.starts_with("before\n") && new.ends_with("after\n") && new.contains("| `a` |"), "{new}");
        assert!(updated("no marks", "").is_err());
    }
}
