//! The table that a bench ends with.

/// Cells by row and column, both in the order in which they first come.
pub struct Table {
    title: String,
    columns: Vec<String>,
    rows: Vec<(String, Vec<(usize, String)>)>,
}

impl Table {
    /// An empty table.
    pub fn new(title: &str) -> Self {
        Self { title: title.into(), columns: Vec::new(), rows: Vec::new() }
    }

    /// Sets a cell; where there is nothing to say, the row is not even named.
    pub fn set(&mut self, row: &str, column: &str, text: Option<String>) {
        let Some(text) = text else { return };
        let column_idx = self.columns.iter().position(|known| known == column);
        let column_idx = column_idx.unwrap_or_else(|| {
            self.columns.push(column.into());
            self.columns.len() - 1
        });
        match self.rows.iter_mut().find(|known| known.0 == row) {
            Some((_, cells)) => cells.push((column_idx, text)),
            None => self.rows.push((row.into(), vec![(column_idx, text)])),
        }
    }

    /// Prints the table, if anything was measured.
    pub fn print(&self) {
        if self.rows.is_empty() {
            return;
        }
        let row_width = self.rows.iter().map(|row| row.0.len()).max().unwrap_or(0);
        let width_of = |column_idx: usize| {
            let cells = self.rows.iter().flat_map(|row| &row.1);
            let cells = cells.filter(|cell| cell.0 == column_idx).map(|cell| cell.1.len());
            cells.max().unwrap_or(0).max(self.columns[column_idx].len())
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width_of).collect();
        println!("\n{}", self.title);
        print!("{:row_width$}", "");
        self.columns.iter().zip(&widths).for_each(|(column, width)| print!("  {column:>width$}"));
        println!();
        for (row, cells) in &self.rows {
            print!("{row:row_width$}");
            for (column_idx, width) in widths.iter().enumerate() {
                let cell = cells.iter().find(|cell| cell.0 == column_idx);
                print!("  {:>width$}", cell.map_or("-", |cell| cell.1.as_str()));
            }
            println!();
        }
    }
}
