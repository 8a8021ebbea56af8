//! What is wrong with the process, and what to do: what `nodeprobe diagnose` says, of the last minute.

use ratatui::text::{Line, Span};

use super::super::blame;
use crate::{
    tui::{palette::Palette, row::Level},
    verdict::Finding,
};

pub(super) fn lines<'a>(findings: &[Finding], palette: &Palette, width: usize) -> Vec<Line<'a>> {
    if findings.is_empty() {
        return vec![Line::styled(" Nothing is wrong in the last minute.", palette.dim)];
    }
    let mut lines = Vec::new();
    for finding in findings.iter().filter(|finding| finding.is_primary()) {
        let level = palette.level(Level::from(finding.severity));
        lines.push(Line::from(vec![
            Span::styled(format!(" {}", finding.severity.name()), level),
            Span::styled(format!("  {}", finding.mode.id()), palette.column),
        ]));
        lines.push(text(palette, width, &finding.summary));
        if let Some(culprit) = &finding.culprit {
            let place = blame(culprit, width.saturating_sub(12), palette);
            lines.push(Line::from(vec![Span::styled("   where ", palette.dim), Span::raw(place)]));
        }
        for remedy in finding.mode.remedy() {
            lines.push(text(palette, width, remedy));
        }
        for consequence in findings.iter().filter(|other| other.because_of == Some(finding.mode)) {
            let hence = format!("hence {}: {}", consequence.mode.id(), consequence.summary);
            lines.push(text(palette, width, &hence).style(palette.dim));
        }
        lines.push(Line::default());
    }
    lines.push(Line::styled(" docs/failure-modes.md explains each.", palette.dim));
    lines
}

fn text<'a>(palette: &Palette, width: usize, text: &str) -> Line<'a> {
    Line::raw(format!("   {}", palette.text(text, width.saturating_sub(4))))
}
