//! The two text formats in which metrics are read, and which of them somebody gets.
//!
//! The registry writes OpenMetrics. The classic Prometheus text is made of that, line by line: there, the name of a
//! counter in `# TYPE` and `# HELP` is the one of its samples, an `info` is a gauge, and units and the end are not marked.
//! Tools that know only the classic text take OpenMetrics for faulty (promtool's `check metrics` is one).

/// A text format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exposition {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus text 0.0.4.
    Classic,
}

impl Exposition {
    /// Its media type.
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Classic => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// The text in this format, of one in OpenMetrics.
    pub(super) fn of_open_metrics(self, text: String) -> String {
        match self {
            Self::OpenMetrics => text,
            Self::Classic => classic(&text),
        }
    }
}

/// What somebody gets who accepts these media types: OpenMetrics only where it is named and not refused, as Prometheus
/// names it. `None` is whoever does not say, a person with curl for one.
pub fn negotiated(accept: Option<&str>) -> Exposition {
    let named = accept.unwrap_or_default().split(',').any(|range| {
        let mut parts = range.split(';').map(str::trim);
        let refused = |parameter: &str| {
            let weight = parameter.strip_prefix("q=").and_then(|weight| weight.parse::<f32>().ok());
            weight.is_some_and(|weight| weight <= 0.0)
        };
        parts.next().is_some_and(|name| name.eq_ignore_ascii_case("application/openmetrics-text"))
            && !parts.any(refused)
    });
    if named { Exposition::OpenMetrics } else { Exposition::Classic }
}

fn classic(text: &str) -> String {
    let mut types = std::collections::HashMap::new();
    for line in text.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            types.insert(name, kind);
        }
    }
    let sample_name = |name: &str| match types.get(name) {
        Some(&"counter") => format!("{name}_total"),
        Some(&"info") => format!("{name}_info"),
        Some(_) | None => name.to_owned(),
    };
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        let described = ["# HELP ", "# TYPE "].into_iter().find_map(|mark| Some((mark, line.strip_prefix(mark)?)));
        match described.map(|(mark, rest)| (mark, rest.split_once(' ').unwrap_or((rest, "")))) {
            Some((mark, (name, rest))) => {
                let rest = if mark == "# TYPE " && rest == "info" { "gauge" } else { rest };
                out.push_str(&format!("{mark}{} {rest}\n", sample_name(name)));
            }
            None if line.starts_with("# UNIT ") || line == "# EOF" => {}
            None => {
                out.push_str(line);
                out.push('\n');
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openmetrics_is_for_those_who_name_it() {
        let prometheus = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                          text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        assert_eq!(negotiated(Some(prometheus)), Exposition::OpenMetrics);
        for classic in [None, Some("*/*"), Some("text/plain"), Some(""), Some("application/openmetrics-text; q=0")] {
            assert_eq!(negotiated(classic), Exposition::Classic, "{classic:?}");
        }
    }

    #[test]
    fn the_classic_text_names_samples() {
        let open = "# HELP a_seconds Time.\n# TYPE a_seconds counter\n# UNIT a_seconds seconds\na_seconds_total{x=\"# EOF\"} 1\n\
                    # HELP b Of it.\n# TYPE b info\nb_info{v=\"1\"} 1\n# HELP c Depth.\n# TYPE c gauge\nc 2\n# EOF\n";
        let expected = "# HELP a_seconds_total Time.\n# TYPE a_seconds_total counter\na_seconds_total{x=\"# EOF\"} 1\n\
                        # HELP b_info Of it.\n# TYPE b_info gauge\nb_info{v=\"1\"} 1\n# HELP c Depth.\n# TYPE c gauge\nc 2\n";
        assert_eq!(classic(open), expected);
    }
}
