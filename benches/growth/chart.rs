//! A chart of growth: rows of figures, the ratios that count, and a picture.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::rig::figures::rounded;
use super::rig::machine;
use super::rig::svg::Picture;

const WIDTH: u32 = 640;
const LEFT: f64 = 40.0;
const RIGHT: f64 = 620.0;
const HEIGHT: f64 = 180.0;
const BASE: f64 = 250.0;
const FILL: &str = "#2563eb";

/// One bar, and what is known about it.
pub(crate) struct Row {
    /// What stands under it.
    pub(crate) label: String,
    /// How high it is.
    pub(crate) height: f64,
    /// What stands above it, from top to bottom.
    pub(crate) words: Vec<String>,
    /// Figures for the file.
    pub(crate) figures: Value,
}

/// What the picture shows.
pub(crate) enum Shape {
    /// A bar for each row.
    Bars(Vec<Row>),
    /// A line through (seconds, megabytes), with words at some moments.
    Line {
        /// In order of time.
        points: Vec<(f64, f64)>,
        /// Where something began.
        marks: Vec<(f64, &'static str)>,
    },
}

/// Everything about one kind of growth.
pub(crate) struct Chart {
    /// What its files are called.
    pub(crate) name: &'static str,
    /// What it shows.
    pub(crate) title: String,
    /// The picture and its figures.
    pub(crate) shape: Shape,
    /// The ratios that count, by name.
    pub(crate) ratios: Vec<(String, f64)>,
}

impl Chart {
    /// For the last line.
    pub(crate) fn ratios(&self) -> Map<String, Value> {
        self.ratios.iter().map(|(name, ratio)| (name.clone(), json!(rounded(*ratio, 3)))).collect()
    }

    fn rows(&self) -> Value {
        match &self.shape {
            Shape::Bars(rows) => rows.iter().map(|row| json!({ "label": row.label, "figures": row.figures })).collect(),
            Shape::Line { points, marks } => {
                let point = |(seconds, mb): &(f64, f64)| json!([rounded(*seconds, 2), rounded(*mb, 1)]);
                let mark = |(seconds, what): &(f64, &str)| json!({ "seconds": rounded(*seconds, 2), "began": what });
                json!({
                    "seconds_and_megabytes": points.iter().map(point).collect::<Vec<_>>(),
                    "marks": marks.iter().map(mark).collect::<Vec<_>>(),
                })
            }
        }
    }

    /// For people.
    pub(crate) fn print(&self) {
        println!("\n{}", self.title);
        if let Shape::Bars(rows) = &self.shape {
            for row in rows {
                println!("  {:>22}  {:40}  {}", row.label, row.words.join(", "), row.figures);
            }
        }
        for (name, ratio) in &self.ratios {
            println!("  {name}: {}", rounded(*ratio, 3));
        }
    }

    /// For the documentation.
    pub(crate) fn write(&self, quick: bool) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/benchmarks");
        std::fs::create_dir_all(&folder).expect("a folder");
        let everything = json!({
            "title": self.title,
            "machine": machine::description(),
            "quick": quick,
            "ratios": self.ratios(),
            "rows": self.rows(),
        });
        let text = serde_json::to_string_pretty(&everything).expect("JSON");
        let file = |ending: &str| folder.join(format!("growth-{}.{ending}", self.name));
        std::fs::write(file("json"), format!("{text}\n")).expect("written");
        std::fs::write(file("svg"), self.draw()).expect("written");
    }

    fn draw(&self) -> String {
        let mut picture = Picture::new(WIDTH, 290);
        picture.text((20.0, 24.0), "start", &self.title);
        match &self.shape {
            Shape::Bars(rows) => bars(&mut picture, rows),
            Shape::Line { points, marks } => line(&mut picture, points, marks),
        }
        picture.finish()
    }
}

fn bars(picture: &mut Picture, rows: &[Row]) {
    let highest = rows.iter().map(|row| row.height).fold(f64::MIN_POSITIVE, f64::max);
    picture.rule((LEFT, RIGHT), BASE);
    let places: u32 = u32::try_from(rows.len()).expect("few rows");
    let step = (RIGHT - LEFT) / f64::from(places);
    let width = (step * 0.5).min(80.0);
    let mut middle = LEFT + step / 2.0;
    for row in rows {
        let height = row.height / highest * HEIGHT;
        picture.bar((middle - width / 2.0, BASE - height), (width, height), FILL);
        let mut y = BASE - height - 5.0;
        for words in row.words.iter().rev() {
            picture.text((middle, y), "middle", words);
            y -= 13.0;
        }
        picture.text((middle, BASE + 18.0), "middle", &row.label);
        middle += step;
    }
}

fn line(picture: &mut Picture, points: &[(f64, f64)], marks: &[(f64, &'static str)]) {
    let longest = points.iter().map(|(seconds, _)| *seconds).fold(f64::MIN_POSITIVE, f64::max);
    let highest = points.iter().map(|(_, mb)| *mb).fold(f64::MIN_POSITIVE, f64::max);
    let across = |seconds: f64| LEFT + 20.0 + seconds / longest * (RIGHT - LEFT - 20.0);
    for part in [0.0, 0.5, 1.0] {
        let y = BASE - part * HEIGHT;
        picture.rule((LEFT + 20.0, RIGHT), y);
        picture.text((LEFT + 14.0, y + 4.0), "end", &format!("{:.0} MB", part * highest));
    }
    let placed: Vec<_> = points.iter().map(|(seconds, mb)| (across(*seconds), BASE - mb / highest * HEIGHT)).collect();
    picture.path(&placed, FILL);
    // Alternately in two lines: moments may lie close together.
    for (at, (seconds, what)) in marks.iter().enumerate() {
        let y = if at % 2 == 0 { BASE + 16.0 } else { BASE + 30.0 };
        picture.text((across(*seconds), y), "start", &format!("↑ {what}, {seconds:.0} s"));
    }
}

/// A number of things, short.
pub(crate) fn amount(count: u64) -> String {
    match count {
        0..1_000 => count.to_string(),
        1_000..1_000_000 => format!("{} k", count / 1_000),
        _ => format!("{} M", count / 1_000_000),
    }
}
