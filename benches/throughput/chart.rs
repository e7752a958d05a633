//! The chart: how many a second, and how long each takes as the load grows.

use serde_json::Value;

use super::rig::svg::Picture;

const BAR_WIDTH: f64 = 44.0;
const HEIGHT: f64 = 220.0;
const BASE: f64 = 270.0;
const TOP: f64 = BASE - HEIGHT;
/// The latencies that the second panel reaches from and to, in milliseconds, as powers of ten.
const DECADES: (f64, f64) = (-1.0, 3.0);

fn number(row: &Value, name: &str) -> f64 {
    row[name].as_f64().unwrap_or_default()
}

fn color(name: &str) -> &'static str {
    match name {
        "ceiling" => "#9aa5b1",
        "durable" | "p50_ms" => "#2563eb",
        "raw" | "p99_ms" => "#d97706",
        _ => "#b91c1c",
    }
}

/// Draws both panels.
pub(crate) fn draw(closed: &[Value], open: &[Value]) -> String {
    let mut picture = Picture::new(820, 320);
    bars(&mut picture, closed);
    lines(&mut picture, open);
    picture.finish()
}

fn bars(picture: &mut Picture, rows: &[Value]) {
    picture.text((20.0, 24.0), "start", "Requests a second, closed loop");
    let highest = rows.iter().map(|row| number(row, "per_second")).fold(1.0, f64::max);
    let (mut x, mut group) = (30.0, 0.0);
    for row in rows {
        let connections = number(row, "connections");
        if group != connections {
            x += 20.0;
            let under = (x + 1.5 * BAR_WIDTH + 8.0, BASE + 32.0);
            picture.text(under, "middle", &format!("{connections} connections"));
            group = connections;
        }
        let name = row["engine"].as_str().unwrap_or_default();
        let height = number(row, "per_second") / highest * HEIGHT;
        let y = BASE - height;
        picture.bar((x, y), (BAR_WIDTH, height), color(name));
        let middle = x + BAR_WIDTH / 2.0;
        picture.text((middle, y - 4.0), "middle", &format!("{:.1} k", number(row, "per_second") / 1e3));
        picture.text((middle, BASE + 15.0), "middle", name);
        x += BAR_WIDTH + 8.0;
    }
}

fn lines(picture: &mut Picture, rows: &[Value]) {
    let (left, width) = (470.0, 300.0);
    picture.text((left, 24.0), "start", "Durable, 64 connections: latency by load, open loop");
    let across = |percent: f64| left + percent / 100.0 * width;
    let (lowest, highest) = DECADES;
    let up = |ms: f64| BASE - (ms.max(0.1).log10() - lowest) / (highest - lowest) * HEIGHT;
    for (at, words) in [(0.1, "0.1 ms"), (1.0, "1 ms"), (10.0, "10 ms"), (100.0, "100 ms"), (1e3, "1 s")] {
        let y = up(at);
        picture.rule((left, left + width), y);
        picture.text((left - 6.0, y + 4.0), "end", words);
    }
    let rows: Vec<_> = rows.iter().filter(|row| number(row, "connections") == 64.0).collect();
    for row in &rows {
        let percent = number(row, "percent");
        picture.text((across(percent), BASE + 15.0), "middle", &format!("{percent} %"));
    }
    for (name, words, beside) in [("p50_ms", "p50", 4.0), ("p99_ms", "p99", 12.0), ("p999_ms", "p99.9", -2.0)] {
        let points: Vec<_> =
            rows.iter().map(|row| (across(number(row, "percent")), up(number(row, name)).max(TOP))).collect();
        picture.path(&points, color(name));
        if let Some((x, y)) = points.last() {
            picture.text((x + 6.0, y + beside), "start", words);
        }
    }
}
