# dpkg's log, as rows: line number, stream, type, data (tab-separated).
#
#   DATE TIME status STATE PACKAGE:ARCHITECTURE VERSION
#   DATE TIME ACTION PACKAGE:ARCHITECTURE INSTALLED-VERSION AVAILABLE-VERSION
#   DATE TIME startup|conffile ...                      concerns no package
#
# While a system is bootstrapped, PACKAGE may stand without its architecture: it
# is the machine's own then, given as `native`.
#
# A row without a stream is a line that is no event; its type says why. A line
# that has none of these shapes, perhaps cut by a crash, is "unreadable".

BEGIN {
	OFS = "\t"
	package = "^[A-Za-z0-9][A-Za-z0-9+._-]*(:[a-z0-9-]+)?$"
	version = "^([A-Za-z0-9.+:~_-]+|<.*>)$"     # <none>, in dpkg's language
	action = "^(install|upgrade|remove|purge|configure|trigproc|disappear)$"
}

function no_event(why) {
	print NR, "\\N", why, "\\N"
}

function event(name, type, fields) {
	print NR, (name ~ /:/ ? name : name ":" native), type, "{" pair("at", $1 "T" $2) fields "}"
}

function pair(name, value) {
	return "\"" name "\": \"" value "\""
}

function version_pair(name, value) {
	return value ~ /^</ ? "" : ", " pair(name, value)
}

$1 !~ /^[0-9]+-[0-9]+-[0-9]+$/ || $2 !~ /^[0-9]+:[0-9]+:[0-9]+$/ {
	no_event("unreadable")
	next
}

$3 == "startup" || $3 == "conffile" {
	no_event($3)
	next
}

NF == 6 && $3 == "status" && $4 ~ /^[a-z-]+$/ && $5 ~ package && $6 ~ version {
	event($5, "status", ", " pair("state", $4) version_pair("version", $6))
	next
}

NF == 6 && $3 ~ action && $4 ~ package && $5 ~ version && $6 ~ version {
	event($4, $3, version_pair("installed", $5) version_pair("available", $6))
	next
}

{
	no_event("unreadable")
}
