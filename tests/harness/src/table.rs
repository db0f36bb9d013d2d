//! Tables in Markdown, aligned so that they can be read on a terminal too.

/// A table; the first column is text, the others are numbers.
#[derive(Debug)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// With this first line.
    pub fn new(head: impl IntoIterator<Item = String>) -> Table {
        Table {
            rows: vec![head.into_iter().collect()],
        }
    }

    /// One more line.
    pub fn row(&mut self, row: impl IntoIterator<Item = String>) {
        self.rows.push(row.into_iter().collect());
    }

    /// Whether there is nothing but the first line.
    pub fn is_empty(&self) -> bool {
        self.rows.len() < 2
    }

    /// As Markdown.
    pub fn to_text(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or_default();
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or_default()
                .max(3)
        };
        let mut text = String::new();
        for (number, row) in self.rows.iter().enumerate() {
            text.push('|');
            for column in 0..columns {
                let cell = row.get(column).map_or("", String::as_str);
                let gap = " ".repeat(width(column) - cell.chars().count());
                text += &match column {
                    0 => format!(" {cell}{gap} |"),
                    _ => format!(" {gap}{cell} |"),
                };
            }
            text.push('\n');
            if number == 0 {
                text.push('|');
                for column in 0..columns {
                    let line = "-".repeat(width(column));
                    text += &match column {
                        0 => format!("-{line}-|"),
                        _ => format!("-{line}:|"),
                    };
                }
                text.push('\n');
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(["cell", "µs"].map(str::to_owned));
        table.row(["a", "12345"].map(str::to_owned));
        let expected = "| cell |    µs |\n|------|------:|\n| a    | 12345 |\n";
        assert_eq!(expected, table.to_text());
    }
}
