// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	operatorLog        = "operator.log"
	operatorLogPath    = dir + "/" + operatorLog
	operatorKubeconfig = "operator.kubeconfig"

	tokenSeconds = 24 * 60 * 60 // the API server may grant less
	readyLimit   = time.Minute
)

// operator is the running operator.
type operator struct {
	metrics, health string // addresses on loopback
	tokenEnd        time.Time
	done            chan struct{}
	err             error // of the process, once done is closed
}

// startOperator starts the operator as its own ServiceAccount, and returns when it is ready. The caller's OS thread must
// last as long as the operator may: without Detach the operator dies with it, as the control plane does.
func (s *site) startOperator(ctx context.Context) error {
	o := &operator{done: make(chan struct{})}
	kubeconfig, err := s.operatorKubeconfig(ctx, o)
	if err != nil {
		return err
	}
	if o.metrics, o.health, err = freeAddresses(ctx); err != nil {
		return err
	}
	log, err := os.OpenFile(operatorLogPath, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()                                      // the child has its own copy
	cmd := exec.CommandContext(context.WithoutCancel(ctx), s.opts.operator, //nolint:gosec // G204: starting the given operator is the purpose
		"--kubeconfig="+kubeconfig,
		"--namespace="+operatorNamespace,
		"--probe-image=none", // there is no node that could run it
		"--metrics-bind-address="+o.metrics, "--metrics-secure=false",
		"--health-probe-bind-address="+o.health)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if s.opts.once {
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting the operator: %w", err)
	}
	s.operator = o
	go func() {
		o.err = cmd.Wait()
		close(o.done)
	}()
	s.out.line("  starting %s as ServiceAccount %s/%s (process %d)", s.opts.operator, operatorNamespace, operatorName, cmd.Process.Pid)
	if err := s.record(ctx, cmd); err != nil {
		_ = cmd.Process.Kill() // nobody else would
		<-o.done
		return errors.Join(err, o.ended())
	}
	return o.ready(ctx)
}

// record hands the operator over to the cluster. In the first instants after exec a process has no command line yet, by
// which Record tells it, so this tries for a second.
func (s *site) record(ctx context.Context, cmd *exec.Cmd) error {
	for deadline := time.Now().Add(time.Second); ; {
		err := s.cluster.Record(operatorName, cmd)
		if err == nil || time.Now().After(deadline) || ctx.Err() != nil {
			return err
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// operatorKubeconfig writes a kubeconfig with a token of the operator's ServiceAccount and returns its absolute path,
// which also is how the recorded process is told from others.
func (s *site) operatorKubeconfig(ctx context.Context, o *operator) (string, error) {
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: operatorNamespace, Name: operatorName}}
	token := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: new(int64(tokenSeconds))}}
	if err := s.client.SubResource("token").Create(ctx, account, token); err != nil {
		return "", fmt.Errorf("requesting a token for the operator: %w", err)
	}
	o.tokenEnd = token.Status.ExpirationTimestamp.Time
	path := filepath.Join(filepath.Dir(s.cluster.Kubeconfig()), operatorKubeconfig)
	return path, s.cluster.KubeconfigForToken(path, token.Status.Token)
}

// ready returns when /readyz succeeds.
func (o *operator) ready(ctx context.Context) error {
	for deadline := time.Now().Add(readyLimit); ; {
		err := o.probe(ctx)
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the operator is not ready after %s: %w; see %s", readyLimit, err, operatorLogPath)
		}
		select {
		case <-o.done:
			return o.ended()
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (o *operator) probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+o.health+"/readyz", http.NoBody)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	if err := response.Body.Close(); err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("/readyz answers %s", response.Status)
	}
	return nil
}

// ended returns an error with the end of the log if the operator has ended.
func (o *operator) ended() error {
	if o == nil {
		return nil
	}
	select {
	case <-o.done:
	default:
		return nil
	}
	log, err := os.ReadFile(operatorLogPath)
	if err != nil {
		return err
	}
	lines := bytes.Split(bytes.TrimSpace(log), []byte("\n"))
	status := "exit status 0"
	if o.err != nil {
		status = o.err.Error()
	}
	return fmt.Errorf("the operator has ended (%s); end of %s:\n%s", status, operatorLogPath, bytes.Join(lines[max(0, len(lines)-10):], []byte("\n")))
}

// freeAddresses picks two ports on loopback, below the range from which Linux takes the source ports of outgoing
// connections, so that nobody dials from them between here and the operator's start.
func freeAddresses(ctx context.Context) (first, second string, err error) {
	var config net.ListenConfig
	var found []string
	for range 200 {
		port := 20000 + rand.IntN(12000) //nolint:gosec // G404: a port number is no secret
		listener, err := config.Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			continue
		}
		defer func() { _ = listener.Close() }() // held until both are found, so that they differ
		if found = append(found, listener.Addr().String()); len(found) == 2 {
			return found[0], found[1], nil
		}
	}
	return "", "", errors.New("no two free TCP ports between 20000 and 32000 on 127.0.0.1")
}
