// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

const conditionsFile = "api/v1alpha1/conditions.go"

// constant is one documented string constant.
type constant struct {
	value   string
	clause  string // what stands in parentheses behind the name, such as 4.1
	meaning string
}

// addConditions adds the tables of conditions and of reasons. A reason that has a runbook is linked to it.
func addConditions(sections map[string]string) error {
	conditions, err := constants(conditionsFile, "Condition")
	if err != nil {
		return err
	}
	reasons, err := constants(conditionsFile, "Reason")
	if err != nil {
		return err
	}
	runbooks, err := os.ReadFile(runbooksFile)
	if err != nil {
		return err
	}
	var rows [][]string
	for _, c := range conditions {
		rows = append(rows, []string{code(c.value), c.clause, prose(c.meaning)})
	}
	sections["conditions"] = table([]string{"Condition", "Clause", "Meaning"}, rows)
	rows = nil
	for _, r := range reasons {
		name := code(r.value)
		if strings.Contains(string(runbooks), "\n## "+r.value+"\n") {
			name = fmt.Sprintf("[%s](runbooks.md#%s)", name, strings.ToLower(r.value))
		}
		rows = append(rows, []string{name, prose(r.meaning)})
	}
	sections["reasons"] = table([]string{"Reason", "Meaning"}, rows)
	return nil
}

// constants returns the constants of a file whose names begin with prefix, in order. Each must have a comment.
func constants(file, prefix string) ([]constant, error) {
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
	if err != nil {
		return nil, err
	}
	var out []constant
	var undocumented error
	ast.Inspect(parsed, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Names) != 1 || len(spec.Values) != 1 || !strings.HasPrefix(spec.Names[0].Name, prefix) {
			return true
		}
		literal, ok := spec.Values[0].(*ast.BasicLit)
		if !ok {
			return true
		}
		c, err := newConstant(spec.Names[0].Name, literal.Value, spec.Doc.Text())
		if err != nil {
			undocumented = err
		}
		out = append(out, c)
		return true
	})
	if undocumented == nil && len(out) == 0 {
		return nil, fmt.Errorf("%s: no constant begins with %s", file, prefix)
	}
	return out, undocumented
}

var comment = regexp.MustCompile(`^(\w+)(?: \(([^)]*)\))?:? `)

// newConstant splits a comment such as "ReasonForbidden: the API server …" or "ConditionContested is abnormal …".
func newConstant(name, literal, doc string) (constant, error) {
	value, err := strconv.Unquote(literal)
	if err != nil {
		return constant{}, err
	}
	match := comment.FindStringSubmatch(doc)
	if match == nil || match[1] != name {
		return constant{}, fmt.Errorf("%s: the comment of %s must begin with its name and say what it means", conditionsFile, name)
	}
	return constant{value: value, clause: match[2], meaning: sentence(doc[len(match[0]):])}, nil
}

// sentence begins a text with a capital, unless it begins with the name of a field.
func sentence(text string) string {
	if word, _, _ := strings.Cut(text, " "); strings.Contains(word, ".") {
		return text
	}
	first, size := utf8.DecodeRuneInString(text)
	return string(unicode.ToUpper(first)) + text[size:]
}
