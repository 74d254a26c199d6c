// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package felix

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Labels are the labels of an endpoint or of a network set.
type Labels map[string]string

// Selector says whether labels are selected.
type Selector func(Labels) bool

// words says what the words of a selector mean: the name of a label, and all().
type words struct {
	label func(string) string
	all   Selector
}

var (
	ofEndpoints  = words{label: func(l string) string { return l }, all: func(Labels) bool { return true }}
	ofNamespaces = words{label: func(l string) string { return namespacePrefix + l }, all: inNamespace}
)

// Parse reads a selector of endpoints (projectcalico.org/v3 NetworkPolicySpec.Selector has the grammar).
func Parse(text string) (Selector, error) { return parse(text, ofEndpoints) }

// ParseNamespace reads a selector of namespaces as one of the endpoints in them.
func ParseNamespace(text string) (Selector, error) { return parse(text, ofNamespaces) }

func parse(text string, w words) (Selector, error) {
	tokens, err := scan(text)
	if err != nil {
		return nil, err
	}
	p := &parser{tokens: tokens, words: w}
	s, err := p.or()
	if err == nil && len(p.tokens) > 0 {
		err = fmt.Errorf("%q is left over", p.tokens)
	}
	return s, err
}

const (
	spaces    = " \t"
	operators = "(){},!"
)

// scan splits a selector into words, quoted literals (with their opening quote) and operators.
func scan(text string) ([]string, error) {
	var out []string
	for {
		text = strings.TrimLeft(text, spaces)
		if text == "" {
			return out, nil
		}
		n := 0
		switch c := text[0]; {
		case c == '"' || c == '\'':
			end := strings.IndexByte(text[1:], c)
			if end < 0 {
				return nil, errors.New("a literal has no end")
			}
			out, text = append(out, text[:end+1]), text[end+2:]
			continue
		case slices.Contains([]string{"==", "!=", "&&", "||"}, text[:min(2, len(text))]):
			n = 2
		case strings.IndexByte(operators, c) >= 0:
			n = 1
		default:
			n = len(text) - len(strings.TrimLeftFunc(text, isWord))
		}
		if n == 0 {
			return nil, fmt.Errorf("%q begins with no word", text)
		}
		out, text = append(out, text[:n]), text[n:]
	}
}

func isWord(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("_./-", r)
}

type parser struct {
	tokens []string
	words  words
}

// next takes a token if it is the given one.
func (p *parser) next(want string) bool {
	if len(p.tokens) == 0 || p.tokens[0] != want {
		return false
	}
	p.tokens = p.tokens[1:]
	return true
}

// take takes any token; "" at the end.
func (p *parser) take() string {
	if len(p.tokens) == 0 {
		return ""
	}
	t := p.tokens[0]
	p.tokens = p.tokens[1:]
	return t
}

func (p *parser) or() (Selector, error) {
	left, err := p.and()
	for err == nil && p.next("||") {
		var right Selector
		right, err = p.and()
		a := left
		left = func(l Labels) bool { return a(l) || right(l) }
	}
	return left, err
}

func (p *parser) and() (Selector, error) {
	left, err := p.not()
	for err == nil && p.next("&&") {
		var right Selector
		right, err = p.not()
		a := left
		left = func(l Labels) bool { return a(l) && right(l) }
	}
	return left, err
}

func (p *parser) not() (Selector, error) {
	if !p.next("!") {
		return p.term()
	}
	s, err := p.not()
	return func(l Labels) bool { return !s(l) }, err
}

func (p *parser) term() (Selector, error) {
	if p.next("(") {
		s, err := p.or()
		if err == nil && !p.next(")") {
			err = errors.New(") is missing")
		}
		return s, err
	}
	word := p.take()
	if p.next("(") {
		return p.call(word)
	}
	if word == "" || !isWord(rune(word[0])) {
		return nil, fmt.Errorf("%q is no label", word)
	}
	return p.comparison(p.words.label(word))
}

func (p *parser) comparison(label string) (Selector, error) {
	var values []string
	var err error
	op := p.take()
	switch {
	case op == "==" || op == "!=":
		values = []string{""}
		values[0], err = p.literal()
	case op == "in" || op == "not" && p.next("in"):
		values, err = p.set()
	default:
		err = fmt.Errorf("%q is no operator", op)
	}
	if op == "==" || op == "in" {
		return func(l Labels) bool { v, ok := l[label]; return ok && slices.Contains(values, v) }, err
	}
	return func(l Labels) bool { v, ok := l[label]; return !ok || !slices.Contains(values, v) }, err
}

func (p *parser) call(function string) (Selector, error) {
	var s Selector
	switch function {
	case "all":
		s = p.words.all
	case "has":
		label := p.words.label(p.take())
		s = func(l Labels) bool { _, ok := l[label]; return ok }
	default:
		return nil, fmt.Errorf("%s() is not known", function)
	}
	if !p.next(")") {
		return nil, errors.New(") is missing")
	}
	return s, nil
}

func (p *parser) literal() (string, error) {
	t := p.take()
	if t == "" || (t[0] != '"' && t[0] != '\'') {
		return "", fmt.Errorf("%q is no literal", t)
	}
	return t[1:], nil
}

func (p *parser) set() ([]string, error) {
	if !p.next("{") {
		return nil, errors.New("{ is missing")
	}
	var out []string
	for {
		value, err := p.literal()
		if err != nil {
			return nil, err
		}
		out = append(out, value)
		if p.next("}") {
			return out, nil
		}
		if !p.next(",") {
			return nil, errors.New("} is missing")
		}
	}
}
