"""Pure arithmetic about models and machines; nothing here needs TVM."""
