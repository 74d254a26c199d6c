// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// The escape sequences of a terminal that the demo uses.
const (
	bold  = "1"
	dim   = "2"
	green = "32"
	cyan  = "36"
)

// printer writes for people. A failed write is not looked at: SIGPIPE ends the demo.
type printer struct {
	w      io.Writer
	colour bool
}

func newPrinter(w io.Writer) *printer { return &printer{w: w, colour: isTerminal(w)} }

func (p *printer) paint(code, text string) string {
	if !p.colour {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (p *printer) line(format string, args ...any) {
	_, _ = fmt.Fprintf(p.w, format+"\n", args...)
}

// title begins a step.
func (p *printer) title(number, of int, text string) {
	p.line("\n%s", p.paint(bold, fmt.Sprintf("Step %d of %d: %s", number, of, text)))
}

// prose prints text broken into lines of at most 100 characters.
func (p *printer) prose(text string) {
	const width = 100
	var line string
	for word := range strings.FieldsSeq(text) {
		if line != "" && len(line)+1+len(word) > width {
			p.line("%s", line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	p.line("%s", line)
}

// command prints what was typed and what came back.
func (p *printer) command(words []string) {
	p.line("\n  %s", p.paint(cyan, "$ "+quote(words)))
}

func (p *printer) output(text string) {
	for line := range strings.Lines(text) {
		p.line("  %s", strings.TrimRight(line, "\n"))
	}
}

// fact prints something that was checked.
func (p *printer) fact(format string, args ...any) {
	p.line("  %s", p.paint(green, "✓ "+fmt.Sprintf(format, args...)))
}

func (p *printer) took(d time.Duration) {
	p.line("  %s", p.paint(dim, fmt.Sprintf("(step took %.1f s)", d.Seconds())))
}

// quote joins words so that they can be pasted into a shell.
func quote(words []string) string {
	quoted := make([]string, len(words))
	for i, word := range words {
		if word == "" || strings.ContainsAny(word, " \t\n\"'\\$`!*?[](){}<>|&;#~") {
			word = "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
		}
		quoted[i] = word
	}
	return strings.Join(quoted, " ")
}

// ms renders a time that was measured between two watch events.
func ms(d time.Duration) string { return fmt.Sprintf("%d ms", d.Milliseconds()) }
