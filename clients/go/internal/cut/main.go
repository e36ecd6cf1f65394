// Command cut runs the proxy of package cutter for tests in other languages. For each line `SERVER FRAMES` on its standard input it starts a proxy, in place
// of the previous one, and prints its address; for the line `?` it prints whether the proxy has cut, and its number of connections.
//
// `cut certs FOLDER` writes the certificates of package testcerts instead.
package main

import (
	"bufio"
	"fmt"
	"os"
	"strings"

	"runloom.dev/clients/go/internal/cutter"
	"runloom.dev/clients/go/internal/testcerts"
)

func main() {
	if len(os.Args) == 3 && os.Args[1] == "certs" {
		if err := testcerts.Write(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, "cut:", err)
			os.Exit(1)
		}
		return
	}
	var proxy *cutter.Cutter
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		line := strings.TrimSpace(lines.Text())
		if line == "?" && proxy != nil {
			fmt.Println(proxy.Cut(), proxy.Connections())
			continue
		}
		var server string
		var frames int
		if _, err := fmt.Sscan(line, &server, &frames); err != nil {
			fmt.Fprintf(os.Stderr, "cut: expected SERVER FRAMES or ?, got %q\n", line)
			os.Exit(2)
		}
		if proxy != nil {
			proxy.Close()
		}
		var err error
		if proxy, err = cutter.New(server, frames); err != nil {
			fmt.Fprintln(os.Stderr, "cut:", err)
			os.Exit(1)
		}
		fmt.Println(proxy.Address)
	}
}
