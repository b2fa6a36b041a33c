"""Reading what runs left: records, by plan, by name, or held against others."""
