# Makes the services' JSON lines, as `docker compose logs` prints them, readable: time of day, level, message, then the other fields.
# Lines that are not JSON stay as they are.
function text(key,  value) {
    if (!match($0, "\"" key "\":\"([^\"\\\\]|\\\\.)*\"")) return ""
    value = substr($0, RSTART + length(key) + 4, RLENGTH - length(key) - 5)
    gsub(/\\"/, "\"", value)
    return value
}

# Compose clears the line even where there is no terminal.
{ sub(/^\033\[2K/, "") }

/^[a-z0-9-]+ +[|] [{]"ts":/ {
    message = text("message")
    rest = substr($0, RSTART + RLENGTH)
    sub(/[}]$/, "", rest)
    gsub(/,"/, "  ", rest)
    gsub(/":/, "=", rest)
    $0 = substr($0, 1, index($0, "|") + 1) substr(text("ts"), 12, 12) sprintf(" %-5s ", text("level")) message rest
}

{ print; fflush() }
