"""What the doctor looks at in models: tables, columns, and relationships."""
