package switching

// Matrix lists the names of the rows that are served.
func Matrix() []string {
	var names []string
	for i := range rows {
		names = append(names, rows[i].name)
	}
	return names
}
