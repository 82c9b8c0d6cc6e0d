//! A row of small bars.

/// The bars of a terminal with Unicode, lowest first.
const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Those of another terminal.
const ASCII: [char; 8] = ['.', ':', '-', '=', '+', '*', '%', '#'];

/// Checks whether the locale's character set is UTF-8 (locale(7)).
#[must_use]
pub fn has_unicode(variable: impl Fn(&str) -> Option<String>) -> bool {
    let set = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().filter_map(variable).find(|value| !value.is_empty());
    set.is_some_and(|value| {
        let value = value.to_lowercase();
        value.contains("utf-8") || value.contains("utf8")
    })
}

/// Draws the last `width` values, the highest as a whole bar, but at least `least` so that noise stays low. Each place stands for
/// the mean of several values if there are more.
#[must_use]
pub fn row(values: &[f64], width: usize, least: f64, unicode: bool) -> String {
    if width == 0 || values.is_empty() {
        return String::new();
    }
    let each = values.len().div_ceil(width).max(1);
    let means: Vec<f64> = values.rchunks(each).rev().map(|some| some.iter().sum::<f64>() / some.len() as f64).collect();
    let most = means.iter().copied().fold(least, f64::max).max(f64::MIN_POSITIVE);
    let bars = if unicode { BLOCKS } else { ASCII };
    let bar = |value: &f64| {
        let share = (value / most * 8.0).clamp(0.0, 7.0);
        // `share` is between zero and seven.
        bars[share as usize]
    };
    means.iter().map(bar).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bars_grow_with_the_values() {
        assert_eq!(row(&[0.0, 25.0, 50.0, 100.0], 8, 1.0, true), "▁▃▅█");
        assert_eq!(row(&[0.0, 25.0, 50.0, 100.0], 8, 1.0, false), ".-+#");
        assert_eq!(row(&[0.1, 0.2], 8, 100.0, true), "▁▁", "noise is low");
        assert_eq!(row(&[0.0, 0.0, 100.0, 100.0], 2, 1.0, true), "▁█");
        assert_eq!((row(&[], 8, 1.0, true), row(&[1.0], 0, 1.0, true)), (String::new(), String::new()));
    }

    #[test]
    fn unicode_goes_by_the_locale() {
        let of = |all: &'static [(&str, &str)]| {
            has_unicode(|name| all.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
        };
        assert!(of(&[("LANG", "en_US.UTF-8")]) && of(&[("LC_ALL", "C.utf8"), ("LANG", "C")]));
        assert!(
            !of(&[("LC_ALL", "C"), ("LANG", "en_US.UTF-8")]) && !of(&[]) && of(&[("LC_ALL", ""), ("LANG", "C.UTF-8")])
        );
    }

    proptest! {
        #[test]
        fn a_row_is_never_too_wide(values in proptest::collection::vec(proptest::num::f64::ANY, 0..300), width in 0_usize..60) {
            prop_assert!(row(&values, width, 1.0, true).chars().count() <= width);
        }
    }
}
