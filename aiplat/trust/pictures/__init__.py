"""Pictures that a saved notebook, a card and a mail can all show."""
