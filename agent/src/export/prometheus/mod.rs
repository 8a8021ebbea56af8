//! A page for Prometheus to scrape, and what Kubernetes asks: `/metrics`, `/healthz`, `/readyz`.
//!
//! ```text
//! Snapshot ─► Page (totals per process) ─► families ─► text ─┬► Site (paths, who may share) ─► Server (HTTP)
//!                                          labels ───────────┘
//! ```
//!
//! Names, units, labels and values are those that Prometheus makes of the same metrics when they come by OTLP with its
//! default translation, so that dashboards and rules do not see how they came. What that means for the configuration:
//! the page has the series of many processes, each with its own `job` and `instance`, and Prometheus keeps these only
//! with `honor_labels: true`.
//!
//! Limits: who connects is not asked who he is, and there is no TLS; see [`listen`]. Exponential histograms do not exist
//! in text, so histograms are explicit whatever OTLP is set to.
#![forbid(unsafe_code)]

mod accept;
mod labels;
pub mod listen;
mod page;
mod server;
mod site;
mod text;

pub use self::{
    accept::Format,
    page::Page,
    server::{ListenError, Server},
    site::{Read, Site},
};
