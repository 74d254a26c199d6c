// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

// Command docs writes the tables of docs/spec.md, docs/platforms.md and docs/security.md from what they describe: fields and
// printer columns from config/crd, conditions and reasons from the comments in api/v1alpha1/conditions.go, metrics and flags from
// the code that defines them, policy engines from the table by which they are told, attacks from what test/tamper keeps.
//
//	go run ./hack/docs
//
// A table stands between <!-- begin NAME --> and <!-- end NAME -->. The text around it is written by hand.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
)

const (
	specFile      = "docs/spec.md"
	platformsFile = "docs/platforms.md"
	runbooksFile  = "docs/runbooks.md"
	securityFile  = "docs/security.md"
	attacksFile   = "test/tamper/testdata/attacks.md"
)

// pages are the files with places to fill, and what makes the sections of each.
var pages = map[string]func() (map[string]string, error){
	specFile: makeSections, platformsFile: platformSections, securityFile: securitySections,
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "docs:", err)
		os.Exit(1)
	}
}

func run() error {
	for file, sections := range pages {
		if err := write(file, sections); err != nil {
			return err
		}
	}
	return nil
}

// write fills one page.
func write(file string, makeSections func() (map[string]string, error)) error {
	sections, err := makeSections()
	if err != nil {
		return err
	}
	old, err := os.ReadFile(file) //nolint:gosec // G304: one of our pages
	if err != nil {
		return fmt.Errorf("%w (run it from the root of the repository)", err)
	}
	text, err := fill(string(old), sections)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	if bytes.Equal(old, []byte(text)) {
		return nil
	}
	return os.WriteFile(file, []byte(text), 0o644) //nolint:gosec // G306: documentation, readable like the rest of the tree
}

// makeSections returns the generated text of each section by name.
func makeSections() (map[string]string, error) {
	sections := map[string]string{"metrics": metricsTable(), "flags": flagsTable()}
	for _, add := range []func(map[string]string) error{addSchemas, addConditions} {
		if err := add(sections); err != nil {
			return nil, err
		}
	}
	return sections, nil
}

func securitySections() (map[string]string, error) {
	attacks, err := os.ReadFile(attacksFile)
	return map[string]string{"attacks": string(attacks)}, err
}

var marker = regexp.MustCompile(`(?s)<!-- begin ([a-z-]+) -->\n.*?<!-- end ([a-z-]+) -->`)

// fill replaces what stands between markers. Every section must have its place, and every place its section.
func fill(text string, sections map[string]string) (string, error) {
	var errs []error
	var filled []string
	text = marker.ReplaceAllStringFunc(text, func(found string) string {
		match := marker.FindStringSubmatch(found)
		name, end := match[1], match[2]
		content, known := sections[name]
		switch {
		case name != end:
			errs = append(errs, fmt.Errorf("begin %s ends as end %s", name, end))
		case !known:
			errs = append(errs, fmt.Errorf("nothing generates a section %s", name))
		}
		filled = append(filled, name)
		return fmt.Sprintf("<!-- begin %s -->\n%s<!-- end %s -->", name, content, name)
	})
	for name := range sections {
		if !slices.Contains(filled, name) {
			errs = append(errs, fmt.Errorf("no markers for the section %s", name))
		}
	}
	return text, errors.Join(errs...)
}

// table renders rows below a heading; a cell holds no line breaks.
func table(heading []string, rows [][]string) string {
	var out strings.Builder
	line := func(cells []string) {
		out.WriteString("| " + strings.Join(cells, " | ") + " |\n")
	}
	line(heading)
	out.WriteString(strings.Repeat("|---", len(heading)) + "|\n")
	for _, row := range rows {
		line(row)
	}
	return out.String()
}

// prose makes text safe for a cell.
func prose(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	return strings.NewReplacer("|", `\|`, "<", "&lt;", "*", `\*`).Replace(text)
}

// code marks text as code in a cell.
func code(text string) string {
	return "`" + strings.ReplaceAll(text, "|", `\|`) + "`"
}
