# plots: SVG files beside the table, of what was measured in this run.

# bars NAME TITLE LABEL FUNCTION "CONTENDER..." WHAT...: clusters of bars, one
# cluster a WHAT; FUNCTION is middle (values) or against (ratios)
bars() {
	local file=${results%.md}-$1.svg data=$samples.plot what c title columns
	columns=$(wc -w <<<"$5")
	{
		printf '""'
		for c in $5; do title=title_$c; printf '\t"%s"' "${!title}"; done
		echo
		for what in "${@:6}"; do
			printf '"%s"' "$what"
			for c in $5; do printf '\t%s' "$("$4" "$what" "$c")"; done
			echo
		done
	} | sed 's/\t\t/\t?\t/g; s/\t\t/\t?\t/g; s/\t$/\t?/' >"$data"
	[ "$(sed 1d "$data" | grep -c '[0-9]$\|[0-9]	')" -gt 0 ] || return 0
	gnuplot <<GNUPLOT
set terminal svg size 960,420 noenhanced font "sans,11" background "white"
set output "$file"
set title "$2"
set ylabel "$3"
set datafile separator "\t"
set datafile missing "?"
set style data histograms
set style histogram clustered gap 1
set style fill solid 0.85 noborder
set yrange [0:*]
set grid ytics
set key outside right
plot for [i=2:$((columns + 1))] "$data" using i:xticlabels(1) title columnheader(i)
GNUPLOT
	echo "plot: $file" >&2
}
against() { of "$1" "$2" plain; }

growth_plot() {
	[ -s "$samples.growth" ] || return 0
	gnuplot <<GNUPLOT
set terminal svg size 960,480 font "sans,11" background "white"
set output "${results%.md}-growth.svg"
set title "Microseconds a call by the number of events (both axes logarithmic)"
set xlabel "events in the log"
set ylabel "microseconds"
set logscale xy
set format x "10^{%L}"
set grid
set key outside right
plot "$samples.grown" using 1:2 with linespoints title "append", \
	"" using 1:3 with linespoints dashtype 2 title "INSERT, bare table", \
	"" using 1:4 with linespoints title "read\\\\_stream, 100 events", \
	"" using 1:5 with linespoints dashtype 2 title "SELECT, 100 events", \
	"" using 1:6 with linespoints title "refresh, 100 events"
GNUPLOT
	echo "plot: ${results%.md}-growth.svg" >&2
}

plots() {
	command -v gnuplot >/dev/null || { echo "bench: no plots: gnuplot is not installed" >&2; return 0; }
	growth_plot
	[ -s "$samples" ] || return 0
	load_samples
	local a="append, 1 a transaction,"
	bars append "Appends a second, one a transaction, not durable" "events/s" middle "${stores[*]}" "$a 1 client" "$a 2 clients" "$a 8 clients"
	bars durable "Durable appends a second, one a transaction" "events/s" middle "${stores[*]}" "$a 1 client, durable" "$a 2 clients, durable" "$a 8 clients, durable"
	bars storage "Bytes an event" "bytes" middle "${stores[*]}" table indexes WAL
	bars feed "Milliseconds from commit to having the event" "ms" middle "immutable bare messagedb emmett pgq" "p50, ms from commit to having the event" "p99, ms"
	bars versions "Changes of versioned rows, rate over a table without versions" "ratio" against "immutable periods tablelog audit" UPDATE DELETE INSERT
}
