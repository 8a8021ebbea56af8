//! What happened in the last minute beside stalls and pauses, and what waits now. What did not happen has no line.

use ratatui::{style::Style, text::Line};

use super::{Context, Section, events::list, in_ms};
use crate::{
    model::Backlog,
    report::quantity::{bytes, duration, or_unknown, percent},
    tui::{palette::Palette, row::Level},
    verdict::{
        History,
        thresholds::{BACKLOG_S, DEOPTS_PER_S, POOL_WAIT_S, POOL_WEDGED_S, REJECTIONS_PER_S_CRITICAL},
    },
};

/// The rest are counted.
const MOST_SOCKETS: usize = 4;

/// `None`: nothing.
pub(super) fn happenings<'a>(context: &Context<'a>) -> Option<Section<'a>> {
    let minute = context.minute?;
    let lines =
        [rejections, deopts, pool, sockets, async_context].map(|of| of(minute, context.palette)).concat();
    let about = format!("of the last {}", duration(minute.window_s().round()));
    (!lines.is_empty()).then(|| list("Events and queues", about, context.palette.dim, lines))
}

fn line(what: &str, text: &str, style: Style) -> Line<'static> {
    Line::styled(format!("{what:<15}{text}"), style)
}

fn rejections(minute: &History, palette: &Palette) -> Vec<Line<'static>> {
    let (unhandled, late) = minute.rejections();
    if unhandled + late == 0 {
        return Vec::new();
    }
    // A single one is wrong already.
    let rate = (unhandled > 0).then(|| minute.per_second(unhandled));
    let style = palette.level(Level::of(rate, 0.0, REJECTIONS_PER_S_CRITICAL));
    vec![line("rejections", &format!("{unhandled} unhandled, {late} handled late"), style)]
}

fn deopts(minute: &History, palette: &Palette) -> Vec<Line<'static>> {
    let (count, rate) = (minute.deopts(), minute.per_second(minute.deopts()));
    if count == 0 {
        return Vec::new();
    }
    let style = palette.level(Level::of(Some(rate), DEOPTS_PER_S, f64::INFINITY));
    vec![line("deopts", &format!("{count}, {rate:.1} per second"), style)]
}

fn pool(minute: &History, palette: &Palette) -> Vec<Line<'static>> {
    let (pool, tasks) = (minute.pool(), minute.pool().tasks());
    let mut lines = Vec::new();
    if tasks > 0 {
        let mean_s = pool.waited_ns() as f64 / 1e9 / tasks as f64;
        let longest = or_unknown(pool.max_wait_ns, |ns| in_ms(ns as f64 / 1e9));
        let text = format!("{tasks} tasks, waited {} on average, at most {longest}", in_ms(mean_s));
        let style = palette.level(Level::of(Some(mean_s), POOL_WAIT_S.warning, POOL_WAIT_S.critical));
        lines.push(line("thread pool", &text, style));
    }
    if pool.waiting > 0 {
        let oldest_s = pool.oldest_wait_ns as f64 / 1e9;
        let text = format!("{} in the queue now, the first for {}", pool.waiting, duration(oldest_s));
        let style = palette.level(Level::of(Some(oldest_s), POOL_WEDGED_S.warning, POOL_WEDGED_S.critical));
        lines.push(line("thread pool", &text, style));
    }
    lines
}

fn sockets(minute: &History, palette: &Palette) -> Vec<Line<'static>> {
    let (refused, full) = (minute.sockets_refused(), minute.backlogs());
    let mut lines = Vec::new();
    if refused > 0 {
        lines.push(line("sockets", &format!("{refused} writes refused"), Style::new()));
    }
    for backlog in full.iter().take(MOST_SOCKETS) {
        let Backlog { fd, peer, age_ns, .. } = backlog;
        let age_s = *age_ns as f64 / 1e9;
        let peer = peer.as_deref().map_or_else(|| format!("descriptor {fd}"), |peer| palette.text(peer, 48));
        let text = format!(
            "{peer} full for {}, {} in its queue",
            duration(age_s),
            or_unknown(backlog.known_bytes(), bytes)
        );
        lines.push(line(
            "full socket",
            &text,
            palette.level(Level::of(Some(age_s), BACKLOG_S, f64::INFINITY)),
        ));
    }
    if full.len() > MOST_SOCKETS {
        lines.push(line("full socket", &format!("and {} more", full.len() - MOST_SOCKETS), palette.dim));
    }
    lines
}

fn async_context(minute: &History, palette: &Palette) -> Vec<Line<'static>> {
    let answers = minute.async_context();
    let had = answers.kept + answers.lost;
    if had == 0 {
        return Vec::new();
    }
    let seen = percent(minute.answers_seen_ratio());
    let text = format!("{} of {had} answers without theirs, followed {seen} % of the time", answers.lost);
    // What the application itself leaves, by a timer of its own for example, is in it: the finding tells them apart.
    vec![line("async context", &text, if answers.lost > 0 { Style::new() } else { palette.dim })]
}
