"""Everything that is asked, as data: studies, stages, protocols, settings, runs."""
