//! The chart: how many a second, and how long each takes as the load grows.

use std::fmt::Write as _;

use serde_json::Value;

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

fn text(svg: &mut String, (x, y): (f64, f64), anchor: &str, words: &str) {
    let _infallible = writeln!(svg, "<text x=\"{x:.0}\" y=\"{y:.0}\" text-anchor=\"{anchor}\">{words}</text>");
}

/// Draws both panels.
pub(crate) fn draw(closed: &[Value], open: &[Value]) -> String {
    let mut svg = String::from(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 820 320\" font-family=\"sans-serif\" font-size=\"11\" \
         fill=\"#334155\">\n<rect width=\"820\" height=\"320\" fill=\"#ffffff\"/>\n",
    );
    bars(&mut svg, closed);
    lines(&mut svg, open);
    svg.push_str("</svg>\n");
    svg
}

fn bars(svg: &mut String, rows: &[Value]) {
    text(svg, (20.0, 24.0), "start", "Requests a second, closed loop");
    let highest = rows.iter().map(|row| number(row, "per_second")).fold(1.0, f64::max);
    let (mut x, mut group) = (30.0, 0.0);
    for row in rows {
        let connections = number(row, "connections");
        if group != connections {
            x += 20.0;
            text(svg, (x + 1.5 * BAR_WIDTH + 8.0, BASE + 32.0), "middle", &format!("{connections} connections"));
            group = connections;
        }
        let name = row["engine"].as_str().unwrap_or_default();
        let height = number(row, "per_second") / highest * HEIGHT;
        let (y, fill) = (BASE - height, color(name));
        let _infallible = writeln!(
            svg,
            "<rect x=\"{x:.0}\" y=\"{y:.0}\" width=\"{BAR_WIDTH:.0}\" height=\"{height:.0}\" fill=\"{fill}\"/>"
        );
        text(svg, (x + BAR_WIDTH / 2.0, y - 4.0), "middle", &format!("{:.1} k", number(row, "per_second") / 1e3));
        text(svg, (x + BAR_WIDTH / 2.0, BASE + 15.0), "middle", name);
        x += BAR_WIDTH + 8.0;
    }
}

fn lines(svg: &mut String, rows: &[Value]) {
    let (left, width) = (470.0, 300.0);
    text(svg, (left, 24.0), "start", "Durable, 64 connections: latency by load, open loop");
    let across = |percent: f64| left + percent / 100.0 * width;
    let (lowest, highest) = DECADES;
    let up = |ms: f64| BASE - (ms.max(0.1).log10() - lowest) / (highest - lowest) * HEIGHT;
    for (at, words) in [(0.1, "0.1 ms"), (1.0, "1 ms"), (10.0, "10 ms"), (100.0, "100 ms"), (1e3, "1 s")] {
        let y = up(at);
        let _infallible = writeln!(
            svg,
            "<line x1=\"{left}\" x2=\"{:.0}\" y1=\"{y:.0}\" y2=\"{y:.0}\" stroke=\"#e2e8f0\"/>",
            left + width
        );
        text(svg, (left - 6.0, y + 4.0), "end", words);
    }
    let rows: Vec<_> = rows.iter().filter(|row| number(row, "connections") == 64.0).collect();
    for row in &rows {
        let percent = number(row, "percent");
        text(svg, (across(percent), BASE + 15.0), "middle", &format!("{percent} %"));
    }
    for (name, words, beside) in [("p50_ms", "p50", 4.0), ("p99_ms", "p99", 12.0), ("p999_ms", "p99.9", -2.0)] {
        let points: Vec<_> =
            rows.iter().map(|row| (across(number(row, "percent")), up(number(row, name)).max(TOP))).collect();
        let path: Vec<_> = points.iter().map(|(x, y)| format!("{x:.0},{y:.0}")).collect();
        let _infallible = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2\"/>",
            path.join(" "),
            color(name)
        );
        if let Some((x, y)) = points.last() {
            text(svg, (x + 6.0, y + beside), "start", words);
        }
    }
}
