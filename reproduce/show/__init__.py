"""From CSVs to figures, tables and one page: nothing here trains or judges."""
