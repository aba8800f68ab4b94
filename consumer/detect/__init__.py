"""Events to findings: one file for each detector. Pure: no clock, no file, no network; time is the events' own."""
