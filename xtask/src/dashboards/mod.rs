//! The Grafana dashboards of helm/nodeprobe/dashboards, in the classic JSON model, one file per board.

mod agent;
mod board;
mod culprits;
mod fleet;
mod metrics;
mod panel;
mod process;
mod promql;
mod service;
pub(crate) mod thresholds;

use board::Board;

/// Every board: where it lies from the root of the repository, and its text.
pub(crate) fn files() -> Vec<(String, String)> {
    let boards = [
        ("fleet", fleet::board()),
        ("service", service::board()),
        ("process", process::board()),
        ("agent", agent::board()),
    ];
    let file = |(name, board): (&str, Board)| {
        let text = serde_json::to_string_pretty(&board.json()).expect("a board has only strings as keys");
        (format!("helm/nodeprobe/dashboards/{name}.json"), format!("{text}\n"))
    };
    boards.into_iter().map(file).collect()
}

const TO_SERVICE: &str = "/d/nodeprobe-service?${datasource:queryparam}&${cluster:queryparam}&${namespace:queryparam}\
     &var-service=${__field.labels.service_name}&${__url_time_range}";
const TO_PROCESS: &str = "/d/nodeprobe-process?${datasource:queryparam}&${cluster:queryparam}&${namespace:queryparam}\
     &var-service=${__field.labels.service_name}&var-instance=${__field.labels.service_instance_id}&${__url_time_range}";
/// The same from a row of a table.
const ROW_TO_SERVICE: &str = "/d/nodeprobe-service?${datasource:queryparam}&${cluster:queryparam}&${namespace:queryparam}\
     &var-service=${__data.fields.Service}&${__url_time_range}";
/// From a row that is about several processes of a service, with the board's own choice of them.
const ROW_TO_PROCESSES: &str = "/d/nodeprobe-process?${datasource:queryparam}&${cluster:queryparam}&${namespace:queryparam}\
     &var-service=${__data.fields.Service}&${instance:queryparam}&${__url_time_range}";
const ROW_TO_PROCESS: &str = "/d/nodeprobe-process?${datasource:queryparam}&${cluster:queryparam}&${namespace:queryparam}\
     &var-service=${__data.fields.Service}&var-instance=${__data.fields.Instance}&${__url_time_range}";
