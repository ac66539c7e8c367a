"""Lists that people change while rules name them as `@name`, such as blocked accounts."""
