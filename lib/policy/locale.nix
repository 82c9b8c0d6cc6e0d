# Locale of every session, service and build step of a guest: UTF-8, and no language.
"C.UTF-8"
