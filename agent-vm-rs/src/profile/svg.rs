//! The timeline of a start as a picture.

use anyhow::{Context as _, Result};
use askama::Template;

use super::start::{Profile, Side};

/// Width of the picture, and of the names at its left, in pixels.
const WIDTH: u64 = 960;
const NAMES: u64 = 150;
/// Space at the right for the last bar's time.
const TIMES: u64 = 70;
const ROW: u64 = 24;
const TOP: u64 = 56;

/// A bar with its name and time.
struct Bar<'a> {
    name: &'a str,
    class: &'static str,
    x: u64,
    y: u64,
    width: u64,
    text_x: u64,
    text_y: u64,
    time: String,
}

/// A line at a round number of seconds.
struct Tick {
    x: u64,
    label: String,
}

#[derive(Template)]
#[template(path = "timeline.svg")]
struct Timeline<'a> {
    machine: &'a str,
    dominant: &'a str,
    total: String,
    width: u64,
    height: u64,
    names: u64,
    bottom: u64,
    bars: Vec<Bar<'a>>,
    ticks: Vec<Tick>,
}

fn seconds(ms: u64) -> String {
    format!("{}.{:02} s", ms / 1_000, ms % 1_000 / 10)
}

/// Draws a profile.
///
/// # Errors
/// Never in practice: the template has no fallible expression.
pub fn draw(profile: &Profile) -> Result<String> {
    let end = profile.phases.iter().map(|phase| phase.begin_ms.saturating_add(phase.took_ms)).max();
    let total = end.unwrap_or(0).max(profile.total_ms).max(1);
    let room = u128::from(WIDTH - NAMES - TIMES);
    let x = |ms: u64| u64::try_from(u128::from(ms) * room / u128::from(total)).unwrap_or(0);
    let bars = profile.phases.iter().zip(0..).map(|(phase, row)| {
        let (begin, width) = (NAMES + x(phase.begin_ms), x(phase.took_ms).max(1));
        let y = TOP + ROW * row;
        let is_dominant = profile.dominant.as_deref() == Some(&phase.name);
        let class = match (is_dominant, phase.side) {
            (true, _) => "dominant",
            (false, Side::Host) => "host",
            (false, Side::Guest) => "guest",
        };
        let time = seconds(phase.took_ms);
        let (text_x, text_y) = (begin + width + 4, y + ROW - 10);
        Bar { name: &phase.name, class, x: begin, y, width, text_x, text_y, time }
    });
    let bars: Vec<_> = bars.collect();
    let bottom = TOP + ROW * bars.len() as u64;
    let drawing = Timeline {
        machine: &profile.machine,
        dominant: profile.dominant.as_deref().unwrap_or("none"),
        total: seconds(profile.total_ms),
        width: WIDTH,
        height: bottom + 16,
        names: NAMES,
        bottom,
        bars,
        ticks: ticks(total).map(|ms| Tick { x: NAMES + x(ms), label: format!("{} s", ms / 1_000) }).collect(),
    };
    drawing.render().context("failed to draw the timeline")
}

/// Returns the times at which there are lines, in milliseconds: at most twelve.
fn ticks(total: u64) -> impl Iterator<Item = u64> {
    let steps = [1_u64, 2, 5, 10, 20, 30, 60, 120, 300, 600].map(|seconds| seconds * 1_000);
    let step = steps.into_iter().find(|step| total / step < 12).unwrap_or(total / 11 + 1);
    (0..=total / step).map(move |number| number * step)
}

#[cfg(test)]
mod tests {
    use super::super::start::tests::sample;
    use super::*;

    #[test]
    fn the_picture_matches_its_snapshot() {
        insta::assert_snapshot!(draw(&sample()).unwrap());
    }

    #[test]
    fn names_are_escaped() {
        let hostile = "<script>&\"'";
        let mut profile = sample();
        profile.machine = hostile.to_owned();
        profile.phases[0].name = hostile.to_owned();
        profile.dominant = Some(hostile.to_owned());
        let svg = draw(&profile).unwrap();
        assert!(!svg.contains("<script") && svg.contains("script"), "{svg}");
    }

    #[test]
    fn any_length_has_few_lines() {
        for total in [1, 999, 16_000, 600_000, u64::MAX] {
            assert!((1..=13).contains(&ticks(total).take(20).count()), "{total}");
        }
    }
}
