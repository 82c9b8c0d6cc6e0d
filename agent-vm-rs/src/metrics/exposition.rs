//! Writes metrics in the text formats of Prometheus (exposition format 0.0.4) and of OpenMetrics 1.0.

use std::collections::HashSet;
use std::fmt::Write as _;

/// A text format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus' own.
    Prometheus,
    /// OpenMetrics.
    OpenMetrics,
}

impl Format {
    /// Returns the media type.
    #[must_use]
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// Returns the format that an `Accept` header asks for.
    #[must_use]
    pub fn accepted(header: &str) -> Self {
        if header.contains("application/openmetrics-text") { Self::OpenMetrics } else { Self::Prometheus }
    }
}

/// Kind of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A value that goes up and down.
    Gauge,
    /// A value that only grows, until a restart. Its samples' name ends in `_total`.
    Counter,
}

impl Kind {
    /// Returns its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gauge => "gauge",
            Self::Counter => "counter",
        }
    }
}

/// A metric: what it means, and its unit.
#[derive(Debug, PartialEq, Eq)]
pub struct Family {
    /// Name, without `_total`.
    pub name: &'static str,
    /// Kind.
    pub kind: Kind,
    /// Unit, with which the name ends; empty if there is none.
    pub unit: &'static str,
    /// Names of its labels.
    pub labels: &'static [&'static str],
    /// What it means, as a sentence without its full stop.
    pub help: &'static str,
}

impl Family {
    /// Returns the name of its samples.
    #[must_use]
    pub fn sample_name(&self) -> String {
        match self.kind {
            Kind::Gauge => self.name.to_owned(),
            Kind::Counter => format!("{}_total", self.name),
        }
    }
}

/// The samples of one metric.
#[derive(Debug)]
pub struct Metric {
    family: &'static Family,
    samples: Vec<(Vec<String>, f64)>,
    /// Labels of the samples.
    known: HashSet<Vec<String>>,
}

impl Metric {
    /// Returns a metric without samples.
    #[must_use]
    pub fn new(family: &'static Family) -> Self {
        Self { family, samples: Vec::new(), known: HashSet::new() }
    }

    /// Returns what it is about.
    #[must_use]
    pub fn family(&self) -> &'static Family {
        self.family
    }

    /// Adds a sample with the values of its labels. One with the same labels is left out, and so is a value that is not finite.
    pub fn add(&mut self, labels: &[&str], value: f64) {
        debug_assert_eq!(labels.len(), self.family.labels.len(), "{}", self.family.name);
        let labels: Vec<_> = labels.iter().map(|label| (*label).to_owned()).collect();
        if value.is_finite() && self.known.insert(labels.clone()) {
            self.samples.push((labels, value));
        }
    }

    /// Adds a sample if there is a value.
    pub fn add_if(&mut self, labels: &[&str], value: Option<f64>) {
        if let Some(value) = value {
            self.add(labels, value);
        }
    }
}

/// Escapes a text as both formats require it in the value of a label.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\n', "\\n").replace('"', "\\\"")
}

/// Writes metrics. Those without samples are left out.
#[must_use]
pub fn write(metrics: &[Metric], format: Format) -> String {
    let mut text = String::new();
    for Metric { family, samples, .. } in metrics.iter().filter(|metric| !metric.samples.is_empty()) {
        let sample = family.sample_name();
        let name = if format == Format::OpenMetrics { family.name } else { sample.as_str() };
        let help = family.help.replace('\\', "\\\\").replace('\n', "\\n");
        // Writing to a string does not fail.
        let _ = writeln!(text, "# HELP {name} {help}");
        let _ = writeln!(text, "# TYPE {name} {}", family.kind.as_str());
        if format == Format::OpenMetrics && !family.unit.is_empty() {
            let _ = writeln!(text, "# UNIT {name} {}", family.unit);
        }
        for (values, value) in samples {
            let labels: Vec<_> = family
                .labels
                .iter()
                .zip(values)
                .map(|(name, value)| format!("{name}=\"{}\"", escaped(value)))
                .collect();
            let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
            let _ = writeln!(text, "{sample}{labels} {value}");
        }
    }
    if format == Format::OpenMetrics {
        text += "# EOF\n";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const GAUGE: Family = Family { name: "x_bytes", kind: Kind::Gauge, unit: "bytes", labels: &["a"], help: "Bytes" };
    const COUNTER: Family =
        Family { name: "y_seconds", kind: Kind::Counter, unit: "seconds", labels: &[], help: "Time \\ of\nall" };

    fn metrics() -> Vec<Metric> {
        let (mut gauge, mut counter) = (Metric::new(&GAUGE), Metric::new(&COUNTER));
        gauge.add(&["b\"\\\nc"], 1.5);
        gauge.add(&["b\"\\\nc"], 2.0);
        gauge.add(&["d"], f64::NAN);
        gauge.add_if(&["e"], None);
        counter.add(&[], 3.0);
        vec![gauge, Metric::new(&GAUGE), counter]
    }

    #[test]
    fn both_formats_name_counters_in_their_own_way() {
        assert_eq!(
            write(&metrics(), Format::Prometheus),
            "# HELP x_bytes Bytes\n# TYPE x_bytes gauge\nx_bytes{a=\"b\\\"\\\\\\nc\"} 1.5\n\
             # HELP y_seconds_total Time \\\\ of\\nall\n# TYPE y_seconds_total counter\ny_seconds_total 3\n"
        );
        assert_eq!(
            write(&metrics(), Format::OpenMetrics),
            "# HELP x_bytes Bytes\n# TYPE x_bytes gauge\n# UNIT x_bytes bytes\nx_bytes{a=\"b\\\"\\\\\\nc\"} 1.5\n\
             # HELP y_seconds Time \\\\ of\\nall\n# TYPE y_seconds counter\n# UNIT y_seconds seconds\ny_seconds_total 3\n# EOF\n"
        );
    }

    #[test]
    fn the_format_goes_by_the_accept_header() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.3,*/*;q=0.1";
        assert_eq!(Format::accepted(prometheus), Format::OpenMetrics);
        assert_eq!((Format::accepted("text/plain"), Format::accepted("")), (Format::Prometheus, Format::Prometheus));
    }
}
