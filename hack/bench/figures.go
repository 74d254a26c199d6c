// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"
	"time"
)

// What is at most allowed, as agreed before there was anything to measure.
const (
	convergenceTarget = 1.3
	newP50Target      = 1.3
	newP99Target      = 1.5
	burstTarget       = 1.3
	repairTarget      = 1.5
	changeTarget      = 1.6
	downtimeTarget    = 0.5 // seconds
	cpuTarget         = 1   // milliseconds
	idleCPUTarget     = 0.05
	admissionTarget   = 2 // milliseconds
	statusTarget      = 16 << 10

	rssTarget1k  = 80 // MiB, up to 1,000 namespaces
	rssTarget10k = 160
)

// convergence reports phases a and b.
func (r *results) convergence(b *bench, rounds []convergenceRound) {
	count := float64(b.opts.n)
	seconds := func(value func(*convergenceRound) time.Duration) float64 {
		return medianOf(rounds, func(c *convergenceRound) float64 { return value(c).Seconds() })
	}
	if b.opts.runs("a") {
		raw := seconds(func(c *convergenceRound) time.Duration { return c.raw })
		r.add("raw client, s", raw, noTarget, fmt.Sprintf("%.0f objects/s with %d workers", count*float64(b.specimen.writes())/raw, workers))
		r.add("informer loop, s", seconds(func(c *convergenceRound) time.Duration { return c.loop }), noTarget,
			fmt.Sprintf("from its start; policies alone; %.2f ms CPU per namespace",
				1000*seconds(func(c *convergenceRound) time.Duration { return c.loopCPU })/count))
	}
	if !b.opts.runs("b") {
		return
	}
	last := &rounds[len(rounds)-1]
	r.usage = newUsage()
	r.usage.add(last.usage)
	r.add("operator, s", seconds(func(c *convergenceRound) time.Duration { return c.operator }), noTarget, "from the creation of the baseline to the last coverage")
	if b.opts.runs("a") {
		r.add("convergence_ratio", medianOf(rounds, func(c *convergenceRound) float64 {
			return c.operator.Seconds() / c.raw.Seconds()
		}), convergenceTarget, perRound(rounds, func(c *convergenceRound) float64 { return c.operator.Seconds() / c.raw.Seconds() }))
	}
	r.add("cpu_ms_per_namespace", 1000*seconds(func(c *convergenceRound) time.Duration { return c.cpu })/count, cpuTarget,
		fmt.Sprintf("raw client about %.2f", 1000*seconds(func(c *convergenceRound) time.Duration { return c.rawCPU - c.recorderCPU })/count))
	peak := 0.0
	for i := range rounds {
		peak = max(peak, rounds[i].peak)
	}
	limit := float64(rssTarget1k)
	if r.n > 1000 {
		limit = rssTarget10k
	}
	r.add("rss_mib", peak, limit, fmt.Sprintf("peak, when all %d namespaces are covered; %d policies of others", r.n, b.opts.foreign*r.n))
	var curve []string
	for _, rate := range last.curve {
		curve = append(curve, fmt.Sprintf("%.0f", rate))
	}
	r.add("namespaces wrong", count-float64(last.correct), 0, "namespaces/s by tenth: "+strings.Join(curve, " "))
	r.add("baseline Ready, s", last.ready.Seconds(), noTarget, "from its creation; 0 if it did not come")
}

// newNamespaces reports phase c.
func (r *results) newNamespaces(b *bench, single, burst []latencyRound, used *usage) {
	r.latency("new_namespace", single, 50, newP50Target)
	r.latency("new_namespace", single, 99, newP99Target)
	r.latency("burst", burst, 99, burstTarget)
	r.add("new namespaces missed", missed(single)+missed(burst), 0, "")
	window := func(percent int, of func(*latencyRound) *latencies) float64 {
		return medianOf(single, func(l *latencyRound) float64 { return percentile(of(l).window, percent) })
	}
	operator := func(l *latencyRound) *latencies { return &l.operator }
	loop := func(l *latencyRound) *latencies { return &l.loop }
	if b.loop != nil {
		r.add("start window p99, ms", window(99, operator), noTarget, fmt.Sprintf(
			"p50 %.1f; loop %.1f and %.1f: from the event of the namespace to that of the deny",
			window(50, operator), window(99, loop), window(50, loop)))
	}
	spaces := float64(len(r.usage.namespaced))
	inside := float64(r.usage.inNamespaces())
	r.add("writes_per_namespace", float64(r.usage.writes)/spaces, float64(b.specimen.writes())+0.1, fmt.Sprintf(
		"phases b and c: %.3f in the namespaces, and %d for status and events; new namespaces: %s", inside/spaces, r.usage.writes-r.usage.inNamespaces(), used))
	r.add("reads_per_namespace", float64(r.usage.reads)/spaces, 0, "gets and lists in phases b and c; the lists at the start are before")
}

// latency reports a percentile and its ratio to the loop's.
func (r *results) latency(name string, rounds []latencyRound, percent int, target float64) {
	key := fmt.Sprintf("%s_p%d", name, percent)
	ratio := func(l *latencyRound) float64 {
		return percentile(l.operator.sent, percent) / percentile(l.loop.sent, percent)
	}
	r.add(key+"_ms", medianOf(rounds, func(l *latencyRound) float64 { return percentile(l.operator.sent, percent) }), noTarget,
		fmt.Sprintf("loop %.1f", medianOf(rounds, func(l *latencyRound) float64 { return percentile(l.loop.sent, percent) })))
	r.add(key+"_ratio", medianOf(rounds, ratio), target, perRound(rounds, ratio))
}

// repairs reports phase d.
func (r *results) repairs(b *bench, deletes, edits []latencyRound) {
	var both []latencyRound
	for i := range deletes {
		both = append(both, latencyRound{loop: deletes[i].loop.with(&edits[i].loop), operator: deletes[i].operator.with(&edits[i].operator)})
	}
	r.latency("repair", both, 99, repairTarget)
	r.add("repairs missed", missed(both), 0, fmt.Sprintf("of %d; last round: after delete %s; after edit %s",
		2*len(deletes)*len(b.operator.victims(r.n, 0)), &deletes[len(deletes)-1], &edits[len(edits)-1]))
}

// change reports phase e.
func (r *results) change(b *bench, added changed, updates []changed) {
	deletes, exposures := added.deletes, added.exposures
	for i := range updates {
		deletes += updates[i].deletes
		exposures += updates[i].exposures
	}
	ratio := func(c *changed) float64 { return c.operator.Seconds() / c.raw.Seconds() }
	r.add("change_deletes", float64(deletes), 0, "")
	r.add("namespaces uncovered", float64(exposures), 0, "while the baseline changed")
	r.add("change_ratio", medianOf(updates, ratio), changeTarget, perRound(updates, ratio)+fmt.Sprintf(
		"; %d namespaces, %.2f s; %s", len(b.operator.namespaces), updates[len(updates)-1].operator.Seconds(), &updates[len(updates)-1].usage))
	r.add("rule added, ratio", ratio(&added), noTarget, added.usage.String())
}

// downtime reports phase f.
func (r *results) downtime(fromStart, fromReady time.Duration, note string) {
	r.add("downtime_repair_s", fromStart.Seconds(), downtimeTarget, fmt.Sprintf("from the start of the process; %.3f from when it was ready; %s", fromReady.Seconds(), note))
}

// restart reports phase g.
func (r *results) restart(used *usage, synced time.Duration) {
	r.add("restart_writes", float64(used.writes), 0, fmt.Sprintf("ready after %.2f s", synced.Seconds()))
}

// idle reports phase h.
func (r *results) idle(unrelated, used *usage, cpu float64) {
	r.add("unrelated changes, writes", float64(unrelated.writes), 0, fmt.Sprintf("and %d reads", unrelated.reads))
	r.add("idle_writes", float64(used.writes), 0, "leases apart")
	r.add("idle CPU, s per minute", cpu, idleCPUTarget, "")
}

// admission reports phase i: medians of the rounds' differences.
func (r *results) admission(rounds [][]asked) {
	for i, row := range []struct {
		name  string
		limit float64
	}{
		{"same without admission, p99 ms", noTarget},
		{"gate_p99_added_ms", admissionTarget},
		{"guard_p99_added_ms", admissionTarget},
		{"guard, all of it, p99 added ms", admissionTarget},
	} {
		added := func(percent int) func(*[]asked) float64 {
			return func(a *[]asked) float64 { return (*a)[i].added(percent) }
		}
		r.add(row.name, medianOf(rounds, added(99)), row.limit, fmt.Sprintf("%s; p50 %.2f; last round: %s; %s",
			asks[i].name, medianOf(rounds, added(50)), &rounds[len(rounds)-1][i], perRound(rounds, added(99))))
	}
}

// footprint reports what the operator took at most in the whole run.
func (r *results) footprint(b *bench) {
	r.add("peak RSS at the end, MiB", b.operator.peak, noTarget, fmt.Sprintf("%d namespaces", len(b.operator.namespaces)))
	size, _ := b.operator.recorder.status()
	r.add("status_bytes", float64(size), statusTarget, "largest seen")
}

func (l *latencies) with(other *latencies) latencies {
	return latencies{sent: append(append([]time.Duration{}, l.sent...), other.sent...), missed: l.missed + other.missed}
}

func missed(rounds []latencyRound) float64 {
	sum := 0
	for i := range rounds {
		sum += rounds[i].operator.missed
	}
	return float64(sum)
}

// perRound lists the values whose median is reported.
func perRound[R any](rounds []R, value func(*R) float64) string {
	var values []string
	for i := range rounds {
		values = append(values, fmt.Sprintf("%.2f", value(&rounds[i])))
	}
	return "rounds: " + strings.Join(values, " ")
}
