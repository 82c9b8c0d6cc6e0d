//! Tables for people, fitted to the terminal's width.

use textwrap::core::display_width;

use crate::term::terminal::{pad, shorten_end, shorten_start};

/// Columns between two cells.
const GAP: usize = 2;

/// The columns of a table.
pub struct Columns<'a, const N: usize> {
    /// Their names.
    pub header: [&'a str; N],
    /// Columns that become narrower on a narrow terminal, in this order, and their least widths.
    pub gives_way: &'a [(usize, usize)],
    /// Columns whose end matters more than their start, such as paths.
    pub shorten_start: &'a [usize],
}

impl<const N: usize> Columns<'_, N> {
    /// Formats lines. With `width`, columns are shortened to fit a terminal. Cells contain no line feed.
    #[must_use]
    pub fn format(&self, lines: Vec<[String; N]>, width: Option<usize>) -> String {
        let lines: Vec<_> = std::iter::once(self.header.map(str::to_owned)).chain(lines).collect();
        let widest = |column: usize| lines.iter().map(|line| display_width(&line[column])).max().unwrap_or(0);
        let mut widths: [usize; N] = std::array::from_fn(widest);
        if let Some(width) = width {
            let gaps = GAP * (widths.len() - 1);
            for (column, least) in self.gives_way {
                let too_wide = (widths.iter().sum::<usize>() + gaps).saturating_sub(width);
                widths[*column] = widths[*column].saturating_sub(too_wide).max((*least).min(widths[*column]));
            }
        }
        let fitted = |(column, cell): (usize, &String)| {
            let short = if self.shorten_start.contains(&column) { shorten_start } else { shorten_end };
            pad(&short(cell, widths[column]), widths[column])
        };
        let text = |line: &[String; N]| {
            let cells: Vec<_> = line.iter().enumerate().map(fitted).collect();
            cells.join(&" ".repeat(GAP)).trim_end().to_owned() + "\n"
        };
        lines.iter().map(text).collect()
    }
}

/// Returns a path as `~/…` if it is below the home directory.
#[must_use]
pub fn below_home(path: &std::path::Path, home: Option<&std::path::Path>) -> String {
    let below = home.filter(|home| home.is_absolute()).and_then(|home| path.strip_prefix(home).ok());
    let shown = match below {
        Some(below) if below.as_os_str().is_empty() => "~".to_owned(),
        Some(below) => format!("~/{}", below.display()),
        None => path.display().to_string(),
    };
    crate::term::text::one_line(&shown)
}
