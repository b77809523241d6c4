"""Where pieces go and who may read them: placement rules, and the order limits that follow."""
