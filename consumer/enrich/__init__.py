"""Further facts about an event, such as the person and the source. Enrichment only adds fields, and never raises."""
