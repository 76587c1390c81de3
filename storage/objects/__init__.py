"""Write-once objects: files, S3 with object lock, and the probe of both."""
