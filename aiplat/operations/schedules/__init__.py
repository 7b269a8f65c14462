"""When pipelines run by themselves: calendars, schedules, the service that fires them, and what is made up for."""
