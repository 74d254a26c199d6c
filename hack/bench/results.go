// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"text/tabwriter"
	"time"
)

// keys are the members of the result file.
var keys = []string{
	"convergence_ratio",
	"new_namespace_p50_ms", "new_namespace_p99_ms", "new_namespace_p99_ratio",
	"burst_p99_ms", "burst_p99_ratio",
	"repair_p99_ms", "repair_p99_ratio",
	"change_deletes", "change_ratio",
	"downtime_repair_s",
	"writes_per_namespace", "reads_per_namespace", "restart_writes", "idle_writes",
	"gate_p99_added_ms", "guard_p99_added_ms",
	"rss_mib", "cpu_ms_per_namespace", "status_bytes", "n",
}

// noTarget is the limit of a figure that is reported without one.
const noTarget = math.MaxFloat64

// figure is one row of the table; the target is to be at most limit.
type figure struct {
	name  string // one of keys, or what the row is about
	value float64
	limit float64
	note  string
}

// results collects the figures of a run.
type results struct {
	n       int
	others  float64 // percent of the machine that other programs took
	usage   usage   // the operator's in phases b and c
	figures []figure
}

func (r *results) add(name string, value, limit float64, note string) {
	r.figures = append(r.figures, figure{name, value, limit, note})
}

// print writes the table.
func (r *results) print(out io.Writer) {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintf(table, "\nn=%d\tmeasured\ttarget\tmet\t%d CPUs, of which other programs took %.0f %%\n",
		r.n, runtime.NumCPU(), r.others)
	missed := 0
	for _, f := range r.figures {
		target, met := "", ""
		if f.limit != noTarget {
			target, met = "<= "+number(f.limit), "yes"
			if !(f.value <= f.limit) { // NaN is not met
				met = "NO"
				missed++
			}
		}
		_, _ = fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", f.name, number(f.value), target, met, f.note)
	}
	_ = table.Flush()
	if missed > 0 {
		_, _ = fmt.Fprintf(out, "\n%d targets were not met.\n", missed)
	}
}

// write writes the figures that have a key, rounded to what they can tell.
func (r *results) write(path string) error {
	members := map[string]json.Number{"n": json.Number(number(float64(r.n)))}
	for _, f := range r.figures {
		if slices.Contains(keys, f.name) {
			members[f.name] = json.Number(number(f.value))
		}
	}
	for _, key := range keys {
		if members[key] == "" || members[key] == "NaN" {
			return fmt.Errorf("%s was not measured", key)
		}
	}
	data, err := json.MarshalIndent(members, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return err
	}
	return os.WriteFile(path, append(data, '\n'), 0o600)
}

// number prints three decimals at most, fewer for large values.
func number(value float64) string {
	for _, step := range []struct {
		above float64
		scale float64
	}{{1000, 1}, {100, 10}, {10, 100}, {0, 1000}} {
		if math.Abs(value) >= step.above {
			return fmt.Sprint(math.Round(value*step.scale) / step.scale)
		}
	}
	return fmt.Sprint(value)
}

// percentile returns a percentile in milliseconds, by nearest rank.
func percentile(samples []time.Duration, percent int) float64 {
	if len(samples) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(samples))
	rank := (percent*len(sorted) + 99) / 100
	return milliseconds(sorted[max(0, rank-1)])
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// median returns the middle value, or the mean of the two middle ones.
func median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// medianOf returns the median of one value of each round.
func medianOf[R any](rounds []R, value func(*R) float64) float64 {
	values := make([]float64, len(rounds))
	for i := range rounds {
		values[i] = value(&rounds[i])
	}
	return median(values)
}
