# Locale of all sessions, services and build steps of a guest.
"C.UTF-8"
